"""`amen skew`: where logged requests differ from the examples that a run was trained on.

In: the statistics of the run's newest training split, its schema, and a folder of logged requests. Out: a table of what
the schema does not allow in a request, and of columns that are spread otherwise than in training.
"""

import pathlib

import apache_beam as beam
import tensorflow_data_validation as tfdv
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console
from rich.table import Table
from tensorflow_metadata.proto.v0 import schema_pb2

from amen_tf.config import Settings
from amen_tf.features import FeatureContract
from pipeline.example_validator import read_statistics
from pipeline.logged_requests import read_requests, request_files
from pipeline.pipeline import STATISTICS
from pipeline.runners.beam import beam_arguments
from pipeline.runners.console import print_uncut
from pipeline.runners.data_stages import of_last_run, run_data_stages
from pipeline.validation import Statistics, anomalies, distances
from schemas.loader import SERVING, own_schema, schema_for


def statistics_of(requests: str | pathlib.Path, contract: FeatureContract, folder: pathlib.Path) -> Statistics:
    """Statistics of the logged requests in a folder or file.

    Args:
      requests: where they lie.
      contract: the run's features.
      folder: for the statistics' own file.

    Raises:
      LoggedRequestError: there are none, or one cannot be read.
    """
    files = request_files(requests)
    # Once before Beam, whose tracebacks bury what is wrong with a file.
    for path in files:
        next(read_requests(path, contract), None)
    target = str(folder / "requests.pb")
    with beam.Pipeline(options=PipelineOptions(beam_arguments(1))) as pipeline:
        _ = (
            pipeline
            | beam.Create(files)
            | beam.FlatMap(read_requests, contract)
            | tfdv.GenerateStatistics(tfdv.StatsOptions())
            | tfdv.WriteStatisticsToBinaryFile(target)
        )
    return tfdv.load_stats_binary(target)


def findings(train: Statistics, served: Statistics, schema: schema_pb2.Schema) -> list[tuple[str, str, str]]:
    """(feature, what, how much): what a request may not be, then what is spread otherwise than in training."""
    found = [
        (feature, reason.short_description, reason.description)
        for feature, info in sorted(anomalies(served, schema, SERVING).items())
        for reason in info.reason
    ]
    return found + [(name, "Skew", text) for name, text in distances(train, schema, serving=served).items()]


def report(settings: Settings, requests: pathlib.Path, person: Console, folder: pathlib.Path) -> int:
    """Prints the findings and returns the exit status: 1 if there are any.

    Args:
      settings: of the run.
      requests: folder or file of logged requests.
      person: the console.
      folder: for files in passing.
    """
    settings, results = run_data_stages(of_last_run(settings), STATISTICS)
    contract = FeatureContract.from_settings(settings)
    schema = schema_for(contract, own_schema(settings.data.schema_file))
    newest = settings.split.train_splits[-1]
    train = read_statistics(f"{results[STATISTICS].outputs['statistics']}/Split-{newest}")
    served = statistics_of(requests, contract, folder)
    count = served.datasets[0].num_examples
    found = findings(train, served, schema)
    person.print(f"{count:,} logged requests beside the {train.datasets[0].num_examples:,} of {newest}.")
    if not found:
        person.print("They are alike.")
        return 0
    table = Table(title="Where they differ", title_justify="left")
    for column in ("feature", "what", "how much"):
        table.add_column(column)
    for row in found:
        table.add_row(*row)
    print_uncut(table, person)
    return 1
