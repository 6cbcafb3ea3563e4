"""Output tensors to JSON, for :predict: rows (`predictions`) or columns (`outputs`), as the request came."""

import base64
from collections.abc import Mapping

import numpy as np

from serving.double.errors import invalid
from serving.double.json_reader import from_bytes
from serving.double.json_writer import PrettyWriter, float_texts, string_text
from serving.double.tensors import SUPPORTED_TYPES, type_name


def outputs_to_json(outputs: Mapping[str, np.ndarray], row_form: bool) -> str:
    """The reply text.

    Args:
        outputs: output name -> tensor; a name ending in `_bytes` sends its strings as base64 objects.
        row_form: True for `predictions` (rows), False for `outputs` (columns).
    """
    texts = {name: _value_texts(name, array) for name, array in outputs.items()}
    several = len(outputs) > 1
    writer = PrettyWriter()
    writer.start_object()
    if not row_form:
        writer.key("outputs")
        if several:
            writer.start_object()
        for name, array in outputs.items():
            if several:
                writer.key(name)
            _write_tensor(writer, array.shape, texts[name])
        if several:
            writer.end()
    else:
        rows = _common_rows(outputs)
        writer.key("predictions")
        writer.start_array()
        for row in range(rows):
            writer.single_line = not several
            if several:
                writer.start_object()
                writer.single_line = True
            for name, array in outputs.items():
                if several:
                    writer.key(name)
                size = len(texts[name]) // rows
                _write_tensor(writer, array.shape[1:], texts[name][row * size : (row + 1) * size])
            writer.single_line = False
            if several:
                writer.end()
        writer.end()
    writer.end()
    return writer.text()


def _common_rows(outputs: Mapping[str, np.ndarray]) -> int:
    rows = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if rows is not None and array.shape[0] != rows:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {rows}")
        rows = array.shape[0]
    return rows or 0


def _write_tensor(writer: PrettyWriter, shape: tuple[int, ...], texts: list[str]) -> None:
    if not shape:
        writer.raw(texts[0])
        return
    writer.start_array()
    if len(shape) == 1:
        writer.extend(texts)
    else:
        size = len(texts) // shape[0] if shape[0] else 0
        for index in range(shape[0]):
            _write_tensor(writer, shape[1:], texts[index * size : (index + 1) * size])
    writer.end()


def _value_texts(name: str, array: np.ndarray) -> list[str]:
    """Every element of a tensor as JSON text, row-major."""
    flat = array.reshape(-1)
    if array.dtype in (np.float32, np.float64):
        return float_texts(flat)
    if array.dtype == np.bool_:
        return ["true" if value else "false" for value in flat.tolist()]
    if array.dtype == np.object_:
        values = [value if isinstance(value, bytes) else str(value).encode() for value in flat.tolist()]
        if name.endswith("_bytes"):
            return [f'{{"b64": "{base64.b64encode(value).decode()}"}}' for value in values]
        return [string_text(from_bytes(value)) for value in values]
    if array.dtype.name in SUPPORTED_TYPES:
        return [str(value) for value in flat.tolist()]
    raise invalid(f"Failed to write JSON value for tensor type: {type_name(array.dtype.name)}")
