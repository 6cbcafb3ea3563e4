"""Writes replies as the server does: RapidJSON's pretty layout and the server's own text for floats.

The layout matters to nobody's parser but to every test that compares texts; the float text matters to everybody: a
float has 6 digits if these read back as the same value, else enough to be exact, and always a `.` or an `e`.
"""

import contextlib
import math
import re
from collections.abc import Sequence

import numpy as np

_INDENT = "    "
_ESCAPE = re.compile(r'["\\\x00-\x1f]')
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def string_text(text: str) -> str:
    """A JSON string literal; other than control characters nothing is escaped, not even bytes that are no UTF-8."""
    return f'"{_ESCAPE.sub(_escaped, text)}"'


def _escaped(match: re.Match) -> str:
    char = match.group()
    return _SHORT_ESCAPES.get(char) or f"\\u{ord(char):04X}"


def float_texts(values: np.ndarray) -> list[str]:
    """Texts of floats.

    Args:
        values: [n] float32 or float64.

    Returns:
        n texts such as `0.1`, `3.14159274`, `9e+06`, `NaN`.
    """
    digits = 17 if values.dtype == np.float64 else 9
    numbers = values.tolist()
    short = [f"{x:g}" for x in numbers]
    with np.errstate(over="ignore", invalid="ignore"):
        exact = np.array([float(s) for s in short], np.float64).astype(values.dtype) == values
    return [_decimal(x, s if same else f"{x:.{digits}g}") for x, s, same in zip(numbers, short, exact, strict=True)]


def _decimal(number: float, text: str) -> str:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return text if "." in text or "e" in text else text + ".0"


class PrettyWriter:
    """RapidJSON's PrettyWriter: every member on its own line; arrays on one line while `single_line` is True."""

    def __init__(self, single_line: bool = False):
        self.single_line = single_line
        self._parts: list[str] = []
        self._open: list[list] = []  # one [is_array, count of values] per open container

    def text(self) -> str:
        return "".join(self._parts)

    def start_object(self) -> None:
        self.raw("{")
        self._open.append([False, 0])

    def start_array(self) -> None:
        self.raw("[")
        self._open.append([True, 0])

    def end(self) -> None:
        """Closes the innermost container."""
        is_array, count = self._open.pop()
        if count and not (is_array and self.single_line):
            self._new_line()
        self._parts.append("]" if is_array else "}")

    def key(self, name: str) -> None:
        self.raw(string_text(name))

    def raw(self, text: str) -> None:
        """Adds a value (or key) that is JSON text already."""
        if self._open:
            level = self._open[-1]
            is_array, count = level
            if is_array:
                self._parts.append((", " if self.single_line else ",") if count else "")
                if not self.single_line:
                    self._new_line()
            elif count % 2:
                self._parts.append(": ")
            else:
                self._parts.append("," if count else "")
                self._new_line()
            level[1] += 1
        self._parts.append(text)

    def extend(self, texts: Sequence[str]) -> None:
        """Adds the values of an open array at once: what `raw` in a loop would write."""
        if texts:
            self.raw(texts[0])
            separator = ", " if self.single_line else ",\n" + _INDENT * len(self._open)
            self._parts.extend(separator + text for text in texts[1:])
            self._open[-1][1] += len(texts) - 1

    def _new_line(self) -> None:
        self._parts.append("\n" + _INDENT * len(self._open))


def error_body(message: str) -> str:
    """The JSON of an error reply."""
    writer = PrettyWriter()
    writer.start_object()
    writer.key("error")
    writer.raw(string_text(message))
    writer.end()
    return writer.text()


class _Unwritable(Exception):
    """RapidJSON stops at a number that JSON has no word for."""


def debug_text(value: object) -> str:
    """A request value as the server quotes it in error messages; the text ends before a NaN or an infinity."""
    writer = PrettyWriter(single_line=True)
    with contextlib.suppress(_Unwritable):
        _write(writer, value)
    return writer.text()


def _write(writer: PrettyWriter, value: object) -> None:
    if isinstance(value, dict):
        writer.start_object()
        for key, member in value.items():
            writer.key(key)
            _write(writer, member)
        writer.end()
    elif isinstance(value, list):
        writer.start_array()
        for member in value:
            _write(writer, member)
        writer.end()
    else:
        writer.raw(_scalar_text(value))
        if isinstance(value, float) and not math.isfinite(value):
            raise _Unwritable


def _scalar_text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return string_text(value)
    if isinstance(value, int):
        return str(value)
    return shortest_double(value)


def shortest_double(value: float) -> str:
    """A double in RapidJSON's own shortest form (`1000.0`, `1e30`), used in error messages only."""
    if not math.isfinite(value):
        return ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return sign + "0.0"
    if len(digits) <= point <= 21:
        return f"{sign}{digits}{'0' * (point - len(digits))}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1}"
