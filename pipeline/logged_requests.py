"""Requests that a server was asked, as record batches that statistics can be made of, for `amen skew`.

In: files of logged requests: `.json` (one request), `.jsonl` (one a line), or `.tfrecord` of TensorFlow Serving's own
request log (PredictionLog) or of tf.Examples, plain or gzipped. JSON is what the client is given (`moveline`,
`candidates`), or the body of a :predict call (`inputs` or `instances`). Out: raw columns, one row a request, as a
training example has them but for what only training has.
"""

import base64
import functools
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from amen_tf.features import BEHAVIOR, CANDIDATE, ITEM_ID, MOVELINE, FeatureContract, RawColumn
from serving.columns import InputSpec, build_columns
from serving.rank_errors import RankError
from serving.rank_request import parse_request

SUFFIXES = (".json", ".jsonl", ".tfrecord", ".tfrecord.gz")
_ARROW = {"string": pa.binary(), "int": pa.int64(), "float": pa.float32()}
_DTYPES = {"string": "DT_STRING", "int": "DT_INT64", "float": "DT_FLOAT"}
_ROWS_AT_ONCE = 1024
# Of serialized tf.Examples, as the signature `serving_default` takes them.
_EXAMPLES = "examples"

Row = dict[str, list]


class LoggedRequestError(ValueError):
    """A logged request that cannot be read, with file and place."""


def request_files(folder: str | pathlib.Path) -> list[str]:
    """The files of logged requests in a folder and below, or the file itself; sorted.

    Raises:
      LoggedRequestError: there are none.
    """
    place = pathlib.Path(folder)
    found = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.name.endswith(SUFFIXES))
    if not found:
        raise LoggedRequestError(f"No logged requests at {place}: expected files ending in {', '.join(SUFFIXES)}.")
    return [str(path) for path in found]


def asked_columns(contract: FeatureContract) -> tuple[RawColumn, ...]:
    """The raw columns that a request has."""
    return (*contract.request_columns, *contract.moveline_columns, *contract.candidate_columns)


def read_requests(path: str, contract: FeatureContract) -> Iterator[pa.RecordBatch]:
    """Logged requests of one file: list columns, some rows at a time.

    Padding is left out and movelines are cut to their newest L events, as the model does it.

    Raises:
      LoggedRequestError: a request cannot be read.
    """
    rows: list[Row] = []
    for row in _rows(path, contract):
        rows.append(row)
        if len(rows) == _ROWS_AT_ONCE:
            yield _batch(rows, contract, path)
            rows = []
    if rows:
        yield _batch(rows, contract, path)


def _rows(path: str, contract: FeatureContract) -> Iterator[Row]:
    for where, of_one in _logged(path, contract):
        try:
            for row in of_one():
                yield _tidy(row, contract)
        except (RankError, DecodeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as e:
            raise LoggedRequestError(f"{where}: no request of this model: {e}") from e


def _logged(path: str, contract: FeatureContract) -> Iterator[tuple[str, Callable[[], Iterable[Row]]]]:
    """Where something was logged, and what gives its rows."""
    if path.endswith((".json", ".jsonl")):
        for where, document in _documents(path):
            yield where, functools.partial(_of_document, document, contract, where)
        return
    records = tf.data.TFRecordDataset(path, "GZIP" if path.endswith(".gz") else "").as_numpy_iterator()
    for number, record in enumerate(records, 1):
        yield f"{path}, record {number}", functools.partial(_of_record, record)


def _documents(path: str) -> Iterator[tuple[str, object]]:
    text = pathlib.Path(path).read_text(encoding="utf-8-sig")
    parts = enumerate(text.splitlines(), 1) if path.endswith(".jsonl") else [(None, text)]
    for number, part in parts:
        where = path if number is None else f"{path}, line {number}"
        if part.strip():
            try:
                document = json.loads(part)
            except json.JSONDecodeError as e:
                raise LoggedRequestError(f"{where}: expected JSON ({e})") from e
            yield from ((where, one) for one in (document if isinstance(document, list) else [document]))


def _of_document(document, contract: FeatureContract, where: str) -> Iterator[Row]:
    document = _plain(document)
    if "candidates" in document:
        specs = {c.name: InputSpec(c.name, _DTYPES[c.kind], 1 if c.scalar else 2) for c in asked_columns(contract)}
        columns = build_columns(parse_request(document), specs, where)
        yield {name: _listed(values[0]) for name, values in columns.items()}
    elif "instances" in document:
        for one in document["instances"]:
            given = one if isinstance(one, Mapping) else {_EXAMPLES: one}
            yield from _of_columns({name: [value] for name, value in given.items()})
    elif "inputs" in document:
        given = document["inputs"]
        yield from _of_columns(given if isinstance(given, Mapping) else {_EXAMPLES: _listed(given)})
    else:
        found = ", ".join(document)
        raise ValueError(f"expected the keys moveline and candidates, or inputs, or instances; got {found}")


def _plain(value):
    """JSON with its bytes, which :predict writes as {"b64": text}."""
    if isinstance(value, Mapping):
        if set(value) == {"b64"}:
            return base64.b64decode(value["b64"], validate=True)
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _of_record(record: bytes) -> Iterable[Row]:
    inputs = _inputs(record)
    if inputs is None:
        return [_of_example(record)]
    return _of_columns({name: values.tolist() for name, values in inputs.items()})


def _inputs(record: bytes) -> dict | None:
    """The inputs of a logged :predict call as arrays; None if the record is none."""
    log = prediction_log_pb2.PredictionLog()
    try:
        log.ParseFromString(record)
    except DecodeError:
        return None
    if not log.HasField("predict_log"):
        return None
    return {name: tf.make_ndarray(tensor) for name, tensor in log.predict_log.request.inputs.items()}


def _of_example(record: bytes) -> Row:
    features = tf.train.Example.FromString(record).features.feature
    return {name: list(getattr(f, f.WhichOneof("kind")).value) for name, f in features.items() if f.WhichOneof("kind")}


def _of_columns(columns: Mapping[str, Sequence]) -> Iterator[Row]:
    """Columns that share their first dimension, or serialized tf.Examples -> one row a request."""
    if _EXAMPLES in columns:
        yield from map(_of_example, columns[_EXAMPLES])
        return
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError("expected as many values in every input, got " + str({n: len(v) for n, v in columns.items()}))
    for values in zip(*columns.values(), strict=True):
        yield {name: _listed(value) for name, value in zip(columns, values, strict=True)}


def _listed(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _tidy(row: Row, contract: FeatureContract) -> Row:
    """Without padding and absent scalars; movelines cut to L."""
    kept = {c.name: row[c.name] for c in asked_columns(contract) if row.get(c.name) is not None}
    if CANDIDATE + ITEM_ID not in kept:
        raise ValueError(f"expected a request with {CANDIDATE + ITEM_ID}, got the columns {', '.join(row) or 'none'}")
    for prefix, sign in ((MOVELINE, BEHAVIOR), (CANDIDATE, ITEM_ID)):
        signs = kept.get(prefix + sign, [])
        places = [place for place, value in enumerate(signs) if value not in ("", b"")]
        if prefix == MOVELINE:
            places = places[-contract.moveline_length :]
        for name in [name for name in kept if name.startswith(prefix)]:
            if len(kept[name]) != len(signs):
                raise ValueError(
                    f"expected as many values in {name} as in {prefix + sign}, {len(signs)}, got {len(kept[name])}"
                )
            kept[name] = [kept[name][place] for place in places]
    for column in contract.request_columns:
        if kept.get(column.name) and _is_nothing(kept[column.name][0]):
            del kept[column.name]
    return kept


def _is_nothing(value) -> bool:
    return value in ("", b"", None) or (isinstance(value, float) and math.isnan(value))


def _batch(rows: Sequence[Row], contract: FeatureContract, path: str) -> pa.RecordBatch:
    """Columns that no request has are left out."""
    arrays = {}
    for column in asked_columns(contract):
        values = [row.get(column.name) for row in rows]
        if any(value is not None for value in values):
            if column.kind == "string":
                values = [v and [x.encode() if isinstance(x, str) else x for x in v] for v in values]
            try:
                arrays[column.name] = pa.array(values, pa.list_(_ARROW[column.kind]))
            except (pa.ArrowException, TypeError, ValueError) as e:
                raise LoggedRequestError(f"{path}: {column.name} is not {column.kind} throughout ({e})") from e
    return pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))
