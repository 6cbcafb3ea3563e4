"""JSON to input tensors, for :predict.

Both request forms of the server: rows (`instances`, one element per row, the batch dimension is added in front) and
columns (`inputs`, one value per input, any shape). Shapes come from the JSON alone, names and types from the signature.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping

import numpy as np

from serving.double.errors import ApiError, invalid
from serving.double.json_reader import to_bytes
from serving.double.json_writer import debug_text

_STANDARD_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
# Names that the server prints where NumPy and Python TensorFlow have other ones.
_SERVER_NAMES = {"float32": "float", "float64": "double", "float16": "half"}


def type_name(dtype: str) -> str:
    """The server's name of a type, e.g. "float" for "float32"."""
    return _SERVER_NAMES.get(dtype, dtype)


def json_type(value: object) -> str:
    """RapidJSON's name of a value's type."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    names = {dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_integer(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and low <= value <= high


_INT32 = _is_integer(-(2**31), 2**31 - 1)
# dtype -> (test of a JSON value, NumPy type that collects the values, NumPy type of the tensor).
# The small integers are collected as int32 and then cast, so they wrap as the server's do (300 -> uint8 44).
_CONVERSIONS: dict[str, tuple[Callable[[object], bool], type, type]] = {
    "float32": (_is_number, np.float64, np.float32),
    "float64": (_is_number, np.float64, np.float64),
    "int32": (_INT32, np.int32, np.int32),
    "int16": (_INT32, np.int32, np.int16),
    "int8": (_INT32, np.int32, np.int8),
    "uint8": (_INT32, np.int32, np.uint8),
    "int64": (_is_integer(-(2**63), 2**63 - 1), np.int64, np.int64),
    "uint32": (_is_integer(0, 2**32 - 1), np.uint32, np.uint32),
    "uint64": (_is_integer(0, 2**64 - 1), np.uint64, np.uint64),
    "bool": (lambda value: isinstance(value, bool), np.bool_, np.bool_),
    "string": (lambda value: isinstance(value, str), np.object_, np.object_),
}
SUPPORTED_TYPES = frozenset(_CONVERSIONS)


def is_base64_object(value: object) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: dict) -> bytes:
    """Bytes of `{"b64": text}`: standard alphabet, padding whole or absent; anything else is INVALID_ARGUMENT."""
    text = value["b64"]
    if _STANDARD_BASE64.fullmatch(text):
        bare = text.rstrip("=")
        padded = bare + "=" * (-len(bare) % 4)
        if text in (bare, padded):
            try:
                return base64.b64decode(padded, validate=True)
            except binascii.Error:
                pass
    raise invalid("Unable to base64 decode")


def _leading_shape(value: object) -> list[int]:
    """Sizes along the first elements: the shape a rectangular value has."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _flatten(value: object, dtype: str, shape: list[int]) -> list:
    """Leaves of `value` in row-major order; raises where it is not `shape` or a leaf is not of `dtype`."""
    out: list = []
    accepts = _CONVERSIONS[dtype][0] if dtype in _CONVERSIONS else None

    def leaf(item: object, level: int) -> None:
        if level != len(shape):
            raise invalid(
                f"JSON Value: {debug_text(item)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        if isinstance(item, dict):
            if dtype != "string":
                raise _type_error(item, dtype)
            if not is_base64_object(item):
                raise invalid(f"JSON Value: {debug_text(item)} not formatted correctly for base64 data")
            out.append(decode_base64(item))
        elif accepts is None:
            raise ApiError("UNIMPLEMENTED", f"Conversion of JSON Value: {debug_text(item)} to type: {type_name(dtype)}")
        elif not accepts(item):
            raise _type_error(item, dtype)
        else:
            out.append(to_bytes(item) if dtype == "string" else item)

    def visit(item: object, level: int) -> None:
        if not isinstance(item, list):
            leaf(item, level)
            return
        if level >= len(shape):
            raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(item) != shape[level]:
            raise invalid(
                f"Encountered list at unexpected size: {len(item)} at level: {level} expected size: {shape[level]}"
            )
        for member in item:
            visit(member, level + 1)

    visit(value, 0)
    return out


def _type_error(value: object, dtype: str) -> ApiError:
    return invalid(
        f"JSON Value: {debug_text(value)} Type: {json_type(value)} is not of expected type: {type_name(dtype)}"
    )


def _to_array(leaves: list, dtype: str, shape: list[int]) -> np.ndarray:
    _, collect, final = _CONVERSIONS.get(dtype, (None, np.float64, np.float64))
    if dtype == "string":
        array = np.empty(len(leaves), np.object_)
        array[:] = leaves
    else:
        with np.errstate(over="ignore"):
            array = np.array(leaves, collect).astype(final)
    try:
        return array.reshape(shape)
    except ValueError:
        raise invalid(f"A tensor of {len(shape)} dimensions is beyond the development double") from None


def inputs_from_document(document: dict, inputs: Mapping[str, str]) -> tuple[dict[str, np.ndarray], bool]:
    """Input tensors of a :predict body.

    Args:
        document: parsed body.
        inputs: input name -> dtype name ("float32", "string", ...) of the signature; not empty.

    Returns:
        (tensors by input name, True for the row form).

    Raises:
        ApiError: with the server's text.
    """
    has_rows, has_columns = "instances" in document, "inputs" in document
    if has_rows and has_columns:
        raise invalid(
            f"JSON Value: {debug_text(document)} Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist "
        )
    if has_rows:
        rows = document["instances"]
        if not isinstance(rows, list):
            raise invalid(f"JSON Value: {debug_text(document)} Expecting 'instances' to be an list/array")
        if not rows:
            raise invalid(f"JSON Value: {debug_text(document)} No values in 'instances' array")
        return _from_rows(rows, inputs), True
    if has_columns:
        return _from_columns(document["inputs"], inputs), False
    raise invalid("Missing 'inputs' or 'instances' key")


def _from_columns(value: object, inputs: Mapping[str, str]) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) or is_base64_object(value):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        value = {next(iter(inputs)): value}
    result = {}
    for name, dtype in inputs.items():
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        shape = _leading_shape(value[name])
        result[name] = _to_array(_flatten(value[name], dtype, shape), dtype, shape)
    return result


def _from_rows(rows: list, inputs: Mapping[str, str]) -> dict[str, np.ndarray]:
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    named = _is_named_row(rows[0])
    columns: dict[str, _RowColumn] = {}
    for index, row in enumerate(rows):
        if named != _is_named_row(row):
            expected, got = ("object", "list") if named else ("value/list", "object")
            raise invalid(f"Expecting {expected} but got {got} at item {index} of input list")
        for name, value in (row if named else {min(inputs): row}).items():
            try:
                if name not in inputs:
                    raise invalid(f"JSON object: does not have named input: {name}")
                columns.setdefault(name, _RowColumn(inputs[name])).add(value)
            except ApiError as error:
                where = f"{index} key: {name}" if named else f"{index}"
                raise invalid(
                    f"Failed to process element: {where} of 'instances' list. Error: {error.status_text}"
                ) from error
        if named and set(row) != set(inputs):
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: {debug_text(row)} "
                f"keys must be equal to: {','.join(sorted(inputs))}"
            )
    return {name: column.array(len(rows)) for name, column in columns.items()}


def _is_named_row(row: object) -> bool:
    return isinstance(row, dict) and not is_base64_object(row)


class _RowColumn:
    """Values of one input, row after row; all rows must have the first one's shape."""

    def __init__(self, dtype: str):
        self._dtype = dtype
        self._shape: list[int] | None = None
        self._leaves: list = []

    def add(self, value: object) -> None:
        shape = _leading_shape(value)
        leaves = _flatten(value, self._dtype, shape)
        if self._shape is None:
            self._shape, self._size = shape, len(leaves)
        elif len(leaves) != self._size:
            raise invalid(f"Expecting tensor size: {self._size} but got: {len(leaves)}")
        elif shape != self._shape:
            expected, got = (",".join(map(str, s)) for s in (self._shape, shape))
            raise invalid(f"Expecting shape [{expected}] but got: [{got}]")
        self._leaves.extend(leaves)

    def array(self, rows: int) -> np.ndarray:
        return _to_array(self._leaves, self._dtype, [rows, *self._shape])
