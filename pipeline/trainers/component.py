"""The stage of a Trainer: TFX's own with a further input, a model of an earlier run, and with labels on its models."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tfx.components.trainer.executor import GenericExecutor
from tfx.dsl.components.base import base_component, executor_spec
from tfx.proto import trainer_pb2
from tfx.types import Artifact, BaseChannel, Channel, artifact_utils, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter
from tfx.utils import json_utils, path_utils

# Name of the input, of what `run_fn` finds its folder under, of the Resolver that fills it, and of its settings.
WARM_START = "warm_start"
# Custom properties of every trained model: the stage that it comes from, where its windows ended, and what its settings
# have in common with those of the other models of its run.
STAGE, SHARED_SETTINGS = "stage", "shared_settings"
BORDERS = ("stage1_end", "train_end", "eval_end")
# Sections that some Trainers of a run have and others do not.
OWN_SECTIONS = ("generator", "ctr", "serving")


def borders(split: Mapping[str, Any]) -> dict[str, int]:
    """Where the windows of a run end, in unix seconds; of one window for both stages, stage 1 ends where both do.

    Args:
      split: `SplitSettings` as a mapping, with its borders in unix seconds.
    """
    found = {name: split[name] for name in BORDERS}
    return found | ({"stage1_end": found["train_end"]} if found["stage1_end"] is None else {})


def shared_settings(settings: Mapping[str, Any]) -> str:
    """A hash of what is the same for all Trainers of a run: `settings` by section, less those of one stage alone."""
    shared = {name: section for name, section in settings.items() if name not in OWN_SECTIONS}
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()


def label(model: Artifact, stage: str, settings: Mapping[str, Any]) -> None:
    """Writes on a model what Resolvers ask for.

    Args:
      model: to be labelled.
      stage: that trained it.
      settings: of its Trainer, by section; `split` as of `borders`.
    """
    model.set_string_custom_property(STAGE, stage)
    model.set_string_custom_property(SHARED_SETTINGS, shared_settings(settings))
    for name, time in borders(settings["split"]).items():
        model.set_int_custom_property(name, time)


class TrainerExecutor(GenericExecutor):
    """Trains as TFX does; `fn_args.warm_start` is the folder of the model to start warm from, or None."""

    def _GetFnArgs(self, input_dict, output_dict, exec_properties):
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        earlier = input_dict.get(WARM_START)
        fn_args.warm_start = path_utils.serving_model_path(artifact_utils.get_single_uri(earlier)) if earlier else None
        return fn_args

    def Do(self, input_dict, output_dict, exec_properties):
        super().Do(input_dict, output_dict, exec_properties)
        config = json_utils.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        [model] = output_dict[standard_component_specs.MODEL_KEY]
        label(model, config["stage"], config["settings"])


class TrainerSpec(standard_component_specs.TrainerSpec):
    """TFX's, and the model to start warm from."""

    INPUTS = {
        **standard_component_specs.TrainerSpec.INPUTS,
        WARM_START: ChannelParameter(type=standard_artifacts.Model, optional=True),
    }


class Trainer(base_component.BaseComponent):
    """Trains a model.

    TFX's Trainer takes one `base_model`, which here is the model of the stage before; a model of an earlier run is an
    input of its own, so that the metadata say what each model started from.

    Component `outputs` contains:
     - `model`: Channel of type `standard_artifacts.Model`, with the labels of `label`.
     - `model_run`: Channel of type `standard_artifacts.ModelRun`, for TensorBoard.
    """

    SPEC_CLASS = TrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(TrainerExecutor)

    def __init__(
        self,
        run_fn: str,
        examples: BaseChannel,
        transform_graph: BaseChannel,
        train_args: trainer_pb2.TrainArgs,
        eval_args: trainer_pb2.EvalArgs,
        custom_config: Mapping[str, Any],
        base_model: BaseChannel | None = None,
        warm_start: BaseChannel | None = None,
    ):
        """Makes the stage.

        Args:
          run_fn: dotted name.
          examples: transformed.
          transform_graph: of Transform.
          train_args, eval_args: the splits.
          custom_config: for `run_fn`; `stage` and `settings` become the labels of the model.
          base_model: the model of the stage before.
          warm_start: the model of an earlier run to start from; a channel that may be empty.
        """
        spec = TrainerSpec(
            run_fn=run_fn,
            examples=examples,
            transform_graph=transform_graph,
            base_model=base_model,
            warm_start=warm_start,
            train_args=train_args,
            eval_args=eval_args,
            custom_config=json_utils.dumps(dict(custom_config)),
            model=Channel(type=standard_artifacts.Model),
            model_run=Channel(type=standard_artifacts.ModelRun),
        )
        super().__init__(spec=spec)
