"""The pipeline stage: `MovelineExampleGen`, and the driver that notices every change of the log.

In: the log, the rules, a fingerprint of the project's code. Out: an Examples artifact with the splits of the rules.
"""

from collections.abc import Iterable
from typing import Any

from tfx.components.example_gen import component, driver, input_processor, utils
from tfx.dsl.components.base import executor_spec
from tfx.orchestration import data_types
from tfx.proto import example_gen_pb2, range_config_pb2

from amen_tf.config import in_spans
from pipeline.event_log import side_tables, storage
from pipeline.event_log.spans import as_glob, log_files
from pipeline.example_gen.executor import MovelineExampleGenExecutor
from pipeline.example_gen.inputs import log_of, pack, rules_of, split_log
from pipeline.example_gen.rules import MovelineRules


class _WholeLog(input_processor.InputProcessor):
    """The pattern as it is: `MovelineDriver` finds the files, with `storage` and not with TFX's own file systems."""

    def resolve_span_and_version(self) -> tuple[int, None]:
        """Spans are chosen by the rules: TFX knows of one that holds everything."""
        return 0, None

    def get_pattern_for_span_version(self, pattern: str, span: int, version: int | None) -> str:
        """The pattern has no field to fill in."""
        return pattern

    def get_latest_span(self) -> int:
        """The only one."""
        return 0


class MovelineDriver(driver.FileBasedDriver):
    """TFX's driver with a finer fingerprint of the input.

    TFX looks at the files that match the pattern directly, not below a folder, sums their sizes, and takes their times
    in whole seconds: a file edited within a second of its writing, or one in a subfolder, would go unnoticed. This one
    takes name, size and time in nanoseconds of every file that the executor will read.

    Kubeflow runs TFX's own driver for every file-based ExampleGen; give the log as a glob of files there.
    """

    def resolve_exec_properties(
        self,
        exec_properties: dict[str, Any],
        pipeline_info: data_types.PipelineInfo,
        component_info: data_types.ComponentInfo,
    ) -> dict[str, Any]:
        """Fills in spans and the fingerprint, which becomes part of the cache key.

        Raises:
          EventLogError: there is no such log.
        """
        resolved = super().resolve_exec_properties(exec_properties, pipeline_info, component_info)
        data = rules_of(resolved).data
        resolved[utils.FINGERPRINT_PROPERTY_NAME] = storage.fingerprint(
            [*log_files(log_of(resolved), data), *side_tables.all_files(data)]
        )
        return resolved

    def get_input_processor(
        self,
        splits: Iterable[example_gen_pb2.Input.Split],
        range_config: range_config_pb2.RangeConfig | None = None,
        input_base_uri: str | None = None,
    ) -> input_processor.InputProcessor:
        """Finds no files: TFX has no file systems for some of the places that a log may lie in."""
        return _WholeLog(splits, range_config)


class MovelineExampleGen(component.FileBasedExampleGen):
    """Event log -> moveline examples, split by time.

    Component `outputs` contains:
     - `examples`: Channel of type `standard_artifacts.Examples`, splits named as in the rules; `report.json` lies
       beside them.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(MovelineExampleGenExecutor)
    DRIVER_CLASS = MovelineDriver

    def __init__(self, log: str, rules: MovelineRules, code_fingerprint: str, store: str | None = None):
        """Makes the stage.

        Args:
          log: a file, a folder (searched in depth), a glob, or a pattern with {SPAN} or {YYYY}, {MM} and {DD}, of which
            those spans are read that the rules name. (TFX itself reads the newest span alone.)
          rules: what the examples are; part of the cache key.
          code_fingerprint: changes when the project's code changes; part of the cache key, because TFX sees only the
            executor's name.
          store: folder that keeps, of a log in spans, what was made of each span; None keeps nothing from run to run.
        """
        base, pattern = split_log(as_glob(log) if in_spans(log) else log)
        # TFX wants a share for each split; this executor splits by time and reads the names from the rules.
        splits = [example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=1) for name in rules.split_names]
        super().__init__(
            input_base=base,
            input_config=utils.make_default_input_config(pattern),
            output_config=example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=splits)),
            custom_config=pack(rules, code_fingerprint, log if in_spans(log) else "", store),
        )
