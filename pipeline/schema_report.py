"""What `amen schema` prints: anomalies of the run's examples, proposals as a table, and the edit as a diff."""

import pathlib

from google.protobuf import text_format
from rich.console import Console
from rich.table import Table

from amen_tf.config import Settings
from amen_tf.features import FeatureContract
from pipeline.example_validator import anomaly_table, broken, read_statistics
from pipeline.pipeline import STATISTICS
from pipeline.runners.console import print_uncut
from pipeline.runners.data_stages import of_last_run, run_data_stages
from pipeline.schema_proposal import Proposed, difference, propose
from schemas.loader import own_schema, schema_for


def report(settings: Settings, person: Console, write: pathlib.Path | None = None) -> int:
    """Prints it all and returns the exit status: 1 if the examples break the schema.

    Args:
      settings: of the run.
      person: the console.
      write: file for the proposals.
    """
    settings, results = run_data_stages(of_last_run(settings), STATISTICS)
    contract = FeatureContract.from_settings(settings)
    own = own_schema(settings.data.schema_file)
    schema = schema_for(contract, own)
    folder = pathlib.Path(results[STATISTICS].outputs["statistics"])
    by_split = {split: read_statistics(str(folder / f"Split-{split}")) for split in settings.split.names}
    found = broken(by_split, schema)
    person.print(anomaly_table(found) if found else "The examples fit the schema.", markup=False)
    # Of the first split alone: what is asked of the later ones is not learned from them.
    proposed = propose(schema, by_split[settings.split.stage1_splits[0]], contract)
    _print(proposed, schema, person)
    if write is not None and proposed.proposals:
        if own is not None:
            proposed.schema.MergeFrom(_kept(own, proposed))
        write.write_text(_HEADER + text_format.MessageToString(proposed.schema), encoding="utf-8")
        person.print(f"\nWrote {write}. To make it the rule: data.schema_file: {write}", markup=False)
    return 1 if found else 0


_HEADER = (
    "# Rules for the examples beside those of schemas/moveline.pbtxt: read, mend, and name it as data.schema_file.\n"
)


def _kept(own, proposed: Proposed):
    """The rules of an earlier file that no proposal replaces."""
    kept, named = type(own)(), {feature.name for feature in proposed.schema.feature}
    kept.feature.extend(feature for feature in own.feature if feature.name not in named)
    domains = {domain.name for domain in proposed.schema.string_domain}
    kept.string_domain.extend(domain for domain in own.string_domain if domain.name not in domains)
    return kept


def _print(proposed: Proposed, schema, person: Console) -> None:
    if not proposed.proposals:
        person.print("Nothing more to ask of them.")
        return
    table = Table(title="What could be asked of them", title_justify="left")
    for column in ("feature", "the schema asks", "the first split has", "proposed"):
        table.add_column(column)
    for proposal in proposed.proposals:
        table.add_row(*proposal)
    print_uncut(table, person)
    person.print(difference(schema, proposed.schema), markup=False)
