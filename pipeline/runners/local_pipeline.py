"""The pipeline as it runs on this machine: everything below the run's folder."""

from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline

from amen_tf.features import FeatureContract
from pipeline.pipeline import create_pipeline
from pipeline.runners.beam import beam_arguments
from pipeline.runners.layout import Layout
from pipeline.runners.prepare import Prepared
from schemas.loader import own_schema, write_schema


def create_local_pipeline(prepared: Prepared, layout: Layout, last: str | None = None) -> Pipeline:
    """The pipeline of a prepared run, with its schema written.

    Args:
      prepared: settings with borders as times, and where the log lies.
      layout: the run's folders.
      last: id of a data stage to end with.

    Raises:
      SchemaError: `data.schema_file` cannot be used.
    """
    run, own = prepared.settings.run, own_schema(prepared.settings.data.schema_file)
    return create_pipeline(
        prepared.settings,
        pipeline_root=str(layout.artifacts),
        log=prepared.log,
        schema_file=write_schema(FeatureContract.from_settings(prepared.settings), layout.schema, own),
        push_folder=str(layout.push),
        metadata_connection_config=sqlite_metadata_connection_config(str(layout.metadata)),
        beam_pipeline_args=beam_arguments(run.beam_workers, run.beam_options),
        flow_folder=str(layout.flows),
        span_folder=str(layout.spans),
        last=last,
    )
