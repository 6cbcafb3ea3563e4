"""Transform whose analyses of a span are kept: of a window that moves on, only what is new is analysed.

TFX's Transform can keep what its analyzers found in a split, by the path of the split's files, and hands it on from run
to run as an artifact. Here a span of the log is what is analysed by itself, whichever split it is in, under a name that
says what its files hold; and it is kept in a folder, so that a repeated run has the same inputs and is taken from TFX's
own cache.
"""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from tensorflow_transform.beam import analyzer_cache
from tfx import types
from tfx.components import Transform
from tfx.components.transform import executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts, standard_component_specs

from pipeline.example_gen.executor import SPANS_FILE


class SpanProcessor(executor.TransformProcessor):
    """Analyses every span of a split as a dataset of its own."""

    def _MakeDatasetList(
        self,
        file_patterns: Sequence[str],
        file_formats: Sequence[str | int],
        data_format: int,
        data_view_uri: str | None,
        can_process_jointly: bool,
        stats_output_paths: Sequence[str] | None = None,
        materialize_output_paths: Sequence[str] | None = None,
    ) -> list[Any]:
        make = super()._MakeDatasetList
        if materialize_output_paths:
            # What is to be written goes by splits.
            return make(
                file_patterns,
                file_formats,
                data_format,
                data_view_uri,
                can_process_jointly,
                stats_output_paths,
                materialize_output_paths,
            )
        parts = [(p, f) for pattern, f in zip(file_patterns, file_formats, strict=True) for p in patterns_of(pattern)]
        datasets = make(*zip(*parts, strict=True), data_format, data_view_uri, can_process_jointly)
        for dataset in datasets:
            dataset.dataset_key = analyzer_cache.DatasetKey(os.path.basename(dataset.file_pattern).rstrip("*-"))
        return sorted(datasets, key=lambda dataset: dataset.dataset_key)


def patterns_of(split: str) -> list[str]:
    """All files of a split as a glob -> a glob for each span in it."""
    folder = os.path.dirname(split)
    with fileio.open(f"{os.path.dirname(folder)}/{SPANS_FILE}", "rb") as file:
        spans = json.loads(file.read())
    return [f"{folder}/{part['files']}-*" for part in spans[os.path.basename(folder).removeprefix("Split-")]]


class SpanExecutor(executor.Executor):
    """Transform's executor, on a log in spans with what is kept of each of them."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See `tfx.components.transform.executor.Executor`."""
        folder = json.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])[SpanTransform.CACHE]
        fresh = f"{folder}.{uuid.uuid4().hex}"
        kept = {standard_component_specs.ANALYZER_CACHE_KEY: [_cache(folder)]} if fileio.exists(folder) else {}
        made = {standard_component_specs.UPDATED_ANALYZER_CACHE_KEY: [_cache(fresh)]}
        try:
            with _analysing_spans():
                super().Do({**input_dict, **kept}, {**output_dict, **made}, exec_properties)
            # With all that was of use, so that it does not grow with the log.
            if fileio.exists(folder):
                fileio.rmtree(folder)
            fileio.rename(fresh, folder)
        finally:
            if fileio.exists(fresh):
                fileio.rmtree(fresh)


class SpanTransform(Transform):
    """TFX's Transform with `SpanExecutor`; `custom_config` has a folder under `CACHE`."""

    CACHE = "analyzer_cache"
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(SpanExecutor)


def _cache(folder: str) -> types.Artifact:
    artifact = standard_artifacts.TransformCache()
    artifact.uri = folder
    return artifact


@contextlib.contextmanager
def _analysing_spans() -> Iterator[None]:
    """TFX's executor names its processor and takes no other."""
    theirs = executor.TransformProcessor
    executor.TransformProcessor = SpanProcessor
    try:
        yield
    finally:
        executor.TransformProcessor = theirs
