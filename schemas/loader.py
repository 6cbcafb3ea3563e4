"""Loads the curated schema and completes it for a run. Out: a `schema_pb2.Schema`, or a file of it."""

import hashlib
import importlib.resources
import pathlib

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from amen_tf.features import CANDIDATE, DIFF_CLICKED, DIFF_UNCLICKED, FUTURE, MOVELINE, SPAN, FeatureContract, RawColumn

CURATED = "moveline.pbtxt"
SERVING = "SERVING"
# What only training examples have.
TRAINING_ONLY = (FUTURE, DIFF_CLICKED, DIFF_UNCLICKED, SPAN)
# Of declared features, as the curated schema has it for its own: L-infinity for categories, Jensen-Shannon for numbers.
_FAR = 0.1
_TYPES = {"string": schema_pb2.BYTES, "int": schema_pb2.INT, "float": schema_pb2.FLOAT}


class SchemaError(ValueError):
    """A schema file that cannot be used."""


def schema_for(contract: FeatureContract, own: schema_pb2.Schema | None = None) -> schema_pb2.Schema:
    """The curated schema, a feature for every raw column that it does not name, and the lengths of the run's lists.

    Declared scalars may be absent; declared lists are as long as the list they belong to, which ExampleGen ensures.

    Args:
      contract: the run's features, L and T.
      own: features that replace those of the same name, and domains.

    Raises:
      SchemaError: `own` has a feature that no example of the run has.
    """
    text = importlib.resources.files("schemas").joinpath(CURATED).read_text(encoding="utf-8")
    schema = text_format.Parse(text, schema_pb2.Schema())
    known = {feature.name for feature in schema.feature}
    for column in contract.raw_columns:
        if column.name not in known:
            _add(schema, column)
    if own is not None:
        _replace(schema, own)
    for feature in schema.feature:
        for prefix, length in ((MOVELINE, contract.moveline_length), (FUTURE, contract.flow_length)):
            if feature.name.startswith(prefix):
                feature.value_count.max = length
    return schema


def _add(schema: schema_pb2.Schema, column: RawColumn) -> None:
    feature = schema.feature.add(name=column.name, type=_TYPES[column.kind])
    feature.value_count.min = 1 if column.name.startswith(CANDIDATE) else 0
    if column.scalar:
        feature.value_count.max = 1
    if column.name.startswith(TRAINING_ONLY):
        feature.not_in_environment.append(SERVING)
        return
    for comparator in (feature.skew_comparator, feature.drift_comparator):
        if column.kind == "string":
            comparator.infinity_norm.threshold = _FAR
        else:
            comparator.jensen_shannon_divergence.threshold = _FAR


def _replace(schema: schema_pb2.Schema, own: schema_pb2.Schema) -> None:
    places = {feature.name: place for place, feature in enumerate(schema.feature)}
    unknown = [feature.name for feature in own.feature if feature.name not in places]
    if unknown:
        raise SchemaError(
            f"The schema of data.schema_file has features that no example of this run has: {', '.join(unknown)}. "
            f"Expected some of {', '.join(places)}."
        )
    for feature in own.feature:
        schema.feature[places[feature.name]].CopyFrom(feature)
    schema.string_domain.extend(own.string_domain)


def read_schema(path: str | pathlib.Path) -> schema_pb2.Schema:
    """A schema from a text file.

    Raises:
      SchemaError: there is no such file, or it is no schema.
    """
    try:
        return text_format.Parse(pathlib.Path(path).read_text(encoding="utf-8"), schema_pb2.Schema())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as e:
        raise SchemaError(
            f"{path}: cannot be read as a schema ({e}). Expected the text of a tensorflow_metadata Schema, as "
            "`amen schema --write` makes it."
        ) from e


def own_schema(path: str | pathlib.Path | None) -> schema_pb2.Schema | None:
    """The rules of `data.schema_file`; None where the settings name none. Errors as of `read_schema`."""
    return None if path is None else read_schema(path)


def write_schema(contract: FeatureContract, folder: str | pathlib.Path, own: schema_pb2.Schema | None = None) -> str:
    """Writes the schema of a run and returns its path; arguments as of `schema_for`.

    The file's name carries a hash of its content: the pipeline's cache sees a changed schema only by its path.
    """
    text = text_format.MessageToString(schema_for(contract, own))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = pathlib.Path(folder) / f"schema-{digest}.pbtxt"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(text, encoding="utf-8")
    return str(path)
