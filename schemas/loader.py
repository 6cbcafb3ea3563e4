"""Loads the curated schema and adds the declared features of a run. Out: a `schema_pb2.Schema`, or a file of it."""

import hashlib
import importlib.resources
import pathlib

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from amen_tf.features import CANDIDATE, FeatureContract, RawColumn

CURATED = "moveline.pbtxt"
_TYPES = {"string": schema_pb2.BYTES, "int": schema_pb2.INT, "float": schema_pb2.FLOAT}


def schema_for(contract: FeatureContract) -> schema_pb2.Schema:
    """The curated schema plus one feature for every raw column that it does not name.

    Declared scalars may be absent; declared lists are as long as the list they belong to, which ExampleGen ensures.
    """
    text = importlib.resources.files("schemas").joinpath(CURATED).read_text(encoding="utf-8")
    schema = text_format.Parse(text, schema_pb2.Schema())
    known = {feature.name for feature in schema.feature}
    for column in contract.raw_columns:
        if column.name not in known:
            _add(schema, column)
    return schema


def _add(schema: schema_pb2.Schema, column: RawColumn) -> None:
    feature = schema.feature.add(name=column.name, type=_TYPES[column.kind])
    feature.value_count.min = 1 if column.name.startswith(CANDIDATE) else 0
    if column.scalar:
        feature.value_count.max = 1


def write_schema(contract: FeatureContract, folder: str | pathlib.Path) -> str:
    """Writes the schema of a run and returns its path.

    The file's name carries a hash of its content: the pipeline's cache sees a changed schema only by its path.
    """
    text = text_format.MessageToString(schema_for(contract))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = pathlib.Path(folder) / f"schema-{digest}.pbtxt"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(text, encoding="utf-8")
    return str(path)
