"""`amen schema`: what the examples of a log are like, beside what the schema asks of them, and an edit that asks more.

In: the schema of a run and the statistics of its first split. Out: proposals, each with its reason, and the text of a
schema file for `data.schema_file` that makes them rules.
"""

import copy
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from amen_tf.features import BEHAVIOR, SCENE, FeatureContract, RawColumn

# A column with more different values than this is no list of names.
_MOST_WORDS = 50
# Of all values, so many must be in the list: a new name now and then is no fault of the log.
_WORDS_SHARE = 0.99
# Of what is there today, so much must be there tomorrow.
_PRESENT_SHARE = 0.9


class Proposal(NamedTuple):
    """An edit of one feature.

    Attributes:
      feature: its name.
      asked: what the schema asks now.
      found: what the examples are like.
      proposed: what to ask.
    """

    feature: str
    asked: str
    found: str
    proposed: str


class Proposed(NamedTuple):
    """Proposals, and the features and domains that they come to."""

    proposals: tuple[Proposal, ...]
    schema: schema_pb2.Schema


def propose(
    schema: schema_pb2.Schema, statistics: statistics_pb2.DatasetFeatureStatisticsList, contract: FeatureContract
) -> Proposed:
    """What could be asked of the columns that the schema asks little of.

    Args:
      schema: of the run.
      statistics: of the split that the models learn from first.
      contract: the run's features.
    """
    (dataset,) = statistics.datasets
    found = {feature.path.step[0]: feature for feature in dataset.features}
    features = {feature.name: copy.deepcopy(feature) for feature in schema.feature}
    own = schema_pb2.Schema()
    proposals = []
    words = _words(contract, found)
    for column in contract.raw_columns:
        feature, stats = features[column.name], found.get(column.name)
        if stats is None:
            continue
        edits = [
            *_of_words(feature, column, words),
            *_of_presence(feature, column, stats, dataset.num_examples, contract),
            *_of_range(feature, column, stats),
        ]
        if edits:
            proposals += edits
            own.feature.append(feature)
    used = {feature.domain for feature in own.feature if feature.domain}
    for meaning in words:
        if meaning in used:
            own.string_domain.add(name=meaning, value=words[meaning])
    return Proposed(tuple(proposals), own)


def _words(contract: FeatureContract, found: Mapping) -> dict[str, list[str]]:
    """The values of every column that has few of them, by meaning; scenes, behaviours, declared categories."""
    declared = [f.name for f in contract.declared if f.kind == "categorical"]
    words: dict[str, list[str]] = {}
    for meaning in (SCENE, BEHAVIOR, *declared):
        names = [c.name for c in contract.raw_columns if c.meaning == meaning and c.name in found]
        stats = [found[name].string_stats for name in names]
        values = {bucket.label for of in stats for bucket in of.rank_histogram.buckets}
        if values - {""} and len(values) <= _MOST_WORDS and all(of.unique <= _MOST_WORDS + 1 for of in stats):
            words[meaning] = sorted(values)
    return words


def _of_words(feature, column: RawColumn, words: Mapping[str, Sequence[str]]) -> list[Proposal]:
    if column.meaning not in words or feature.WhichOneof("domain_info"):
        return []
    values = words[column.meaning]
    feature.domain = column.meaning
    feature.distribution_constraints.min_domain_mass = _WORDS_SHARE
    # ExampleGen keeps the place of a missing value in a list as "".
    named = [value for value in values if value]
    shown = ", ".join(named[:5]) + (", ..." if len(named) > 5 else "")
    return [Proposal(feature.name, "any text", f"{len(named)} values: {shown}", f"{_WORDS_SHARE:.0%} are of these")]


def _of_presence(feature, column: RawColumn, stats, examples: int, contract: FeatureContract) -> list[Proposal]:
    """For declared scalars that the schema lets be absent."""
    declared = {f.name for f in contract.owned_by("user", "context")}
    if column.name not in declared or feature.HasField("presence") or not examples:
        return []
    common = stats.string_stats.common_stats if stats.HasField("string_stats") else stats.num_stats.common_stats
    share = common.num_non_missing / examples
    least = math.floor(_PRESENT_SHARE * share * 20) / 20
    if not least:
        return []
    feature.presence.min_fraction = least
    return [Proposal(feature.name, "may be absent", f"in {share:.1%} of the requests", f"in {least:.0%} at least")]


def _of_range(feature, column: RawColumn, stats) -> list[Proposal]:
    """For declared numbers: as far again on either side as the values reach, but no sign that they do not have."""
    if column.kind != "float" or feature.WhichOneof("domain_info") or not stats.HasField("num_stats"):
        return []
    common, missing = stats.num_stats.common_stats, max((h.num_nan for h in stats.num_stats.histograms), default=0)
    if common.tot_num_values <= missing:
        return []
    low, high = stats.num_stats.min, stats.num_stats.max
    # As far again on either side; of a constant, as far as it is from 0.
    reach = high - low or abs(high)
    least = low - reach if low < 0 else 0.0
    most = high + reach if high > 0 else 0.0
    feature.float_domain.min, feature.float_domain.max = least, most
    # ExampleGen keeps the place of a missing number in a list as NaN.
    return [Proposal(feature.name, "any number", f"{low:g} to {high:g}", f"{least:g} to {most:g}")]


def difference(schema: schema_pb2.Schema, own: schema_pb2.Schema) -> str:
    """The edit as a unified diff of the run's schema."""
    edited = copy.deepcopy(schema)
    places = {feature.name: place for place, feature in enumerate(edited.feature)}
    for feature in own.feature:
        edited.feature[places[feature.name]].CopyFrom(feature)
    edited.string_domain.extend(own.string_domain)
    before, after = (text_format.MessageToString(s).splitlines() for s in (schema, edited))
    return "\n".join(difflib.unified_diff(before, after, "the run's schema", "with the proposals", lineterm="", n=2))
