"""The pipeline, shared by every runner: a pure function from settings and places to a TFX `Pipeline`."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

# Not `tfx.v1`: it imports every cloud client that TFX knows, which takes longer than all the rest.
from tfx.components import Evaluator, StatisticsGen, Transform
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2, trainer_pb2, transform_pb2
from tfx.types import BaseChannel, Channel, standard_artifacts

from amen_tf.config import Settings, SettingsError
from amen_tf.features import FeatureContract
from amen_tf.models.registry import RANKERS
from pipeline.evaluation import TEST_SPLIT, eval_config
from pipeline.example_gen.component import MovelineExampleGen
from pipeline.example_gen.rules import MovelineRules
from pipeline.example_validator import ExampleValidator
from pipeline.fingerprint import fingerprint
from pipeline.pusher import Pusher
from pipeline.resolver import LastBlessedBefore, LastBlessedOfEarlierWindow
from pipeline.trainers.component import WARM_START, Trainer, borders
from pipeline.transform import SpanTransform

# Ids of the stages; also the names that people see.
EXAMPLES, STATISTICS, SCHEMA, VALIDATION, TRANSFORM = "example_gen", "statistics", "schema", "validation", "transform"
BASE, BASELINE, GENERATOR, CTR = "base", "baseline", "generator", "ctr"
RESOLVER, BASELINE_EVALUATOR, EVALUATOR, PUSHER = "last_blessed", "evaluator_baseline", "evaluator", "pusher"
# As one would run them one by one: what is wrong with the data is said by those that look at it first.
STAGES = (
    *(EXAMPLES, STATISTICS, SCHEMA, VALIDATION, TRANSFORM),
    *(WARM_START, BASE, BASELINE, GENERATOR, CTR),
    *(RESOLVER, BASELINE_EVALUATOR, EVALUATOR, PUSHER),
)

EVAL_SPLIT = "eval"
# Settings of the push that its stage reads; the others are in its destination.
KEEP = {"keep_versions", "models_config"}


class Earlier(NamedTuple):
    """Channels of what a run starts warm from; either may be empty.

    Attributes:
      model: a CTR model, which carries the weights of its base and generator along.
      baseline: the baseline of the same run. None: this run's comes by way of Θ_base, which is warm, or, with
        `ctr.window: train`, starts from the earlier base.
    """

    model: BaseChannel
    baseline: BaseChannel | None = None


def create_pipeline(
    settings: Settings,
    *,
    pipeline_root: str,
    log: str,
    schema_file: str,
    push_folder: str,
    metadata_connection_config=None,
    beam_pipeline_args: Sequence[str] = (),
    baseline_model: BaseChannel | None = None,
    resolve_baseline: bool = True,
    earlier: Earlier | None = None,
    flow_folder: str | None = None,
    span_folder: str | None = None,
    last: str | None = None,
) -> Pipeline:
    """Builds the pipeline; nothing is read or written.

    Args:
      settings: of the run, with split borders in unix seconds.
      pipeline_root: where artifacts go.
      log: the event log: a file, folder or glob.
      schema_file: of `schemas.loader.write_schema`.
      push_folder: where blessed versions go; the server's base path.
      metadata_connection_config: of a local runner; None where the orchestrator has its own.
      beam_pipeline_args: for the stages that run on Beam.
      baseline_model: what the gate compares with where no Resolver can run (open-source Kubeflow has none).
      resolve_baseline: find the last blessed model with a Resolver; ignored when `baseline_model` is given.
      earlier: with `warm_start.enabled`, what the models start from where no Resolver can run. It must not know more
        than this run's models may: see `pipeline.resolver.LastBlessedOfEarlierWindow`, which finds it elsewhere.
      flow_folder: where the frozen generator's outputs are kept for later runs; None keeps them for one run.
      span_folder: where what was made of each span of a log in spans is kept for later windows; None makes every window
        from the beginning.
      last: end with this one of the data stages; what it makes is in the cache of the whole pipeline too.
    """
    if settings.base.architecture not in RANKERS:
        expected = ", ".join(RANKERS)
        raise SettingsError(f"base.architecture: expected one of {expected}, got {settings.base.architecture!r}.")
    contract = dataclasses.asdict(FeatureContract.from_settings(settings))
    splits = settings.split
    code = fingerprint("pipeline.example_gen.executor")
    store = span_folder and f"{span_folder}/examples"
    example_gen = MovelineExampleGen(log, MovelineRules.from_settings(settings), code, store).with_id(EXAMPLES)
    statistics = StatisticsGen(examples=example_gen.outputs["examples"]).with_id(STATISTICS)
    schema = ImportSchemaGen(schema_file=schema_file).with_id(SCHEMA)
    validation = ExampleValidator(
        statistics.outputs["statistics"], schema.outputs["schema"], fingerprint("pipeline.example_validator")
    ).with_id(VALIDATION)
    in_spans = splits.spans is not None
    kept_analyses = {SpanTransform.CACHE: f"{span_folder}/analyses"} if in_spans and span_folder else {}
    transform = (SpanTransform if kept_analyses else Transform)(
        examples=example_gen.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn="pipeline.preprocessing.preprocessing_fn",
        # The test split stays raw: no trainer can read it, and the Evaluator sends it through the exported model.
        splits_config=transform_pb2.SplitsConfig(
            analyze=splits.learned_from, transform=[*splits.train_splits, EVAL_SPLIT]
        ),
        custom_config={
            "contract": contract,
            **settings.transform.model_dump(mode="json"),
            # A time would make other analyses of it every day.
            "stage1_end": None if in_spans else splits.stage1_end,
            "code": fingerprint("pipeline.preprocessing", *(["pipeline.transform"] if kept_analyses else [])),
            **kept_analyses,
        },
        # StatisticsGen has looked at the raw examples already; statistics of ids would only cost time.
        disable_statistics=True,
        # It would be an input that is another one in every run: see `SpanTransform`.
        disable_analyzer_cache=True,
    ).with_id(TRANSFORM)

    def made_of(nodes) -> Pipeline:
        return Pipeline(
            pipeline_name=settings.name,
            pipeline_root=pipeline_root,
            components=nodes,
            enable_cache=True,
            metadata_connection_config=metadata_connection_config,
            beam_pipeline_args=list(beam_pipeline_args),
        )

    nodes = [example_gen, statistics, schema, validation, transform]
    if last is not None:
        return made_of(nodes[: [node.id for node in nodes].index(last) + 1])

    if not settings.warm_start.enabled:
        earlier = None
    elif earlier is None:
        if not resolve_baseline:
            raise SettingsError(
                "warm_start.enabled: expected `earlier`, a channel with the model to start from, because no Resolver "
                "can run here; got none. Give one, or set warm_start.enabled to false."
            )
        resolver = Resolver(
            strategy_class=LastBlessedOfEarlierWindow,
            config={"borders": borders(splits.model_dump(mode="json")), "baseline": BASELINE},
            model=Channel(type=standard_artifacts.Model),
            model_blessing=Channel(type=standard_artifacts.ModelBlessing),
            baseline=Channel(type=standard_artifacts.Model),
        ).with_id(WARM_START)
        nodes.append(resolver)
        earlier = Earlier(resolver.outputs["model"], resolver.outputs["baseline"])

    start, warm = (None, []) if earlier is None else (earlier.model, [WARM_START])

    def trainer(stage, module, sections: Sequence[str], train_splits: Sequence[str], base_model=None, start=start):
        custom_config = {
            "contract": contract,
            "stage": stage,
            "settings": settings.model_dump(
                mode="json", include={"seed", "data", "split", "transform", "model", "compute", *warm, *sections}
            ),
            "code": fingerprint(module, "pipeline.trainers.component"),
            **({"flows": flow_folder} if stage == CTR and flow_folder else {}),
        }
        return Trainer(
            run_fn=f"{module}.run_fn",
            examples=transform.outputs["transformed_examples"],
            transform_graph=transform.outputs["transform_graph"],
            base_model=None if base_model is None else base_model.outputs["model"],
            warm_start=start,
            train_args=trainer_pb2.TrainArgs(splits=train_splits),
            eval_args=trainer_pb2.EvalArgs(splits=[EVAL_SPLIT]),
            custom_config=custom_config,
        ).with_id(stage)

    base = trainer(BASE, "pipeline.trainers.base", ["base"], splits.stage1_splits)
    # Anomalies end the run before anything learns from them; Transform need not wait to be told.
    base.add_upstream_node(validation)
    generator = trainer(GENERATOR, "pipeline.trainers.generator", ["base", "generator"], splits.stage1_splits, base)
    ctr_splits = splits.train_splits if settings.ctr.window == "train" else splits.stage2_splits
    ctr = trainer(CTR, "pipeline.trainers.ctr", ["base", "generator", "ctr", "serving"], ctr_splits, generator)
    nodes.append(base)
    # The baseline sees what AMEN sees, in the way in which AMEN does: it goes on from Θ_base where AMEN goes on, and
    # where AMEN starts warm, from the earlier baseline.
    baseline, goes_on = base, settings.ctr.window == "stage2"
    if goes_on or ctr_splits != splits.stage1_splits:
        own = earlier is not None and (earlier.baseline is not None or goes_on)
        before, begin = base if goes_on else None, earlier.baseline if own else start
        baseline = trainer(BASELINE, "pipeline.trainers.base", ["base"], ctr_splits, before, begin)
        baseline.add_upstream_node(validation)
        nodes.append(baseline)
    nodes += [generator, ctr]

    if baseline_model is None and resolve_baseline:
        resolver = Resolver(
            strategy_class=LastBlessedBefore,
            candidate=ctr.outputs["model"],
            model=Channel(type=standard_artifacts.Model),
            model_blessing=Channel(type=standard_artifacts.ModelBlessing),
        ).with_id(RESOLVER)
        nodes.append(resolver)
        baseline_model = resolver.outputs["model"]

    def evaluator(stage: str, model, gate, against=None):
        return Evaluator(
            examples=example_gen.outputs["examples"],
            example_splits=[TEST_SPLIT],
            model=model.outputs["model"],
            baseline_model=against,
            eval_config=eval_config(gate),
        ).with_id(stage)

    gate = evaluator(EVALUATOR, ctr, settings.gate, baseline_model)
    # Only where it is asked for: what is in here re-runs the stage when it changes.
    pruned = {} if settings.push.keep_versions is None else settings.push.model_dump(include=KEEP)
    pusher = Pusher(
        model=ctr.outputs["model"],
        model_blessing=gate.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=push_folder)
        ),
        custom_config={"code": fingerprint("pipeline.pusher"), **pruned},
    ).with_id(PUSHER)
    nodes += [evaluator(BASELINE_EVALUATOR, baseline, None), gate, pusher]
    return made_of(nodes)
