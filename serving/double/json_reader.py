"""Reads request bodies as the server's JSON parser does, with its error texts and byte offsets.

In: bytes of a request body. Out: dict, list, str, int, float, bool or None. Where it differs from Python's `json`:
`Inf` is a number, a number beyond double is an error, the first of duplicate keys wins, a lone surrogate is an error,
an integer literal beyond 64 bits is a float, and strings may hold any bytes (see `to_bytes`).
"""

import json
import math
import re

from serving.double.errors import ApiError, invalid

_BOM = b"\xef\xbb\xbf"
# Documents holding one of these could be read differently by Python's scanner, so they go the slow, exact way.
_NEEDS_EXACT = re.compile(r"\\u[dD][89a-fA-F]|[0-9]{19}|[eE]\+?0*[1-9][0-9]{2}")
_SPACE = re.compile(rb"[ \t\n\r]*")
_INTEGER = re.compile(rb"0|[1-9][0-9]*")
_DIGITS = re.compile(rb"[0-9]+")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_ESCAPES = {ord(k): v for k, v in zip('"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True)}
# Larger documents never go the exact way, which would take minutes for 100 MiB.
_EXACT_BYTES = 2**20
_SURROGATE = re.compile(r"\\(?:\\|u[dD](?:([89abAB])|[c-fC-F])..(\\u[dD][c-fC-F]..)?)", re.DOTALL)
_MIN_INT64, _MAX_UINT64 = -(2**63), 2**64 - 1


def to_bytes(text: str) -> bytes:
    """The bytes that a JSON string stood for."""
    return text.encode("utf-8", "surrogateescape")


def from_bytes(data: bytes) -> str:
    """Any bytes as text that `to_bytes` turns back into them."""
    return data.decode("utf-8", "surrogateescape")


def read_json(body: bytes) -> object:
    """Parses one document.

    Args:
        body: request body, UTF-8, with or without a byte order mark.

    Returns:
        The document; its numbers are `int` where the literal is an integer of 64 bits and `float` otherwise.

    Raises:
        ApiError: INVALID_ARGUMENT `JSON Parse error: ... at offset: N`, N in bytes; above 1 MiB it may differ from the
            server's in text and offset.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    start = len(_BOM) if body.startswith(_BOM) else 0
    if len(body) > _EXACT_BYTES:
        return _read_large(body, start)
    try:
        text = body[start:].decode("utf-8")
        if not _NEEDS_EXACT.search(text):
            return json.loads(text, object_pairs_hook=_first_wins)
    except (ValueError, RecursionError):
        pass  # the exact reader accepts it after all, or finds the text and the offset of the error
    try:
        return _ExactReader(body, start).document()
    except RecursionError:
        raise _too_deep() from None


def _too_deep() -> ApiError:
    return invalid(
        "JSON Parse error: nested too deeply for the development double (a tensor has at most 254 dimensions)"
    )


def _read_large(body: bytes, start: int) -> object:
    """Python's fast scanner, held to the server's rules; only where and how it says that it fails are its own."""
    text = from_bytes(body[start:])
    for match in _SURROGATE.finditer(text):
        is_surrogate = match[0] != "\\\\"
        if is_surrogate and not (match[1] and match[2]):
            raise _error("The surrogate pair in string is invalid.", start + len(to_bytes(text[: match.start()])))
    try:
        return json.loads(text, object_pairs_hook=_first_wins, parse_int=_integer, parse_float=_double)
    except json.JSONDecodeError as error:
        followed = error.msg == "Extra data"
        reason = "The document root must not be followed by other values." if followed else "Invalid value."
        raise _error(reason, start + len(to_bytes(text[: error.pos]))) from error
    except OverflowError:
        raise invalid("JSON Parse error: Number too big to be stored in double.") from None
    except RecursionError:
        raise _too_deep() from None


def _error(text: str, offset: int) -> ApiError:
    return invalid(f"JSON Parse error: {text} at offset: {offset}")


def _integer(literal: str | bytes) -> int | float:
    """An integer literal: int where 64 bits hold it, else float; raises OverflowError beyond double."""
    if len(literal) <= 21 and _MIN_INT64 <= int(literal) <= _MAX_UINT64:
        return int(literal)
    return _double(literal)


def _double(literal: str | bytes) -> float:
    """A number literal as float; raises OverflowError where RapidJSON finds it too big."""
    value = float(literal)
    mantissa, mark, exponent = (literal.decode() if isinstance(literal, bytes) else literal).lower().partition("e")
    # RapidJSON looks at the exponent alone: 0e999 is too big for it too.
    if math.isinf(value) or (mark and float(exponent) > 308 + len(mantissa.partition(".")[2])):
        raise OverflowError(literal)
    return value


def _first_wins(pairs: list) -> dict:
    result = dict(pairs)
    if len(result) != len(pairs):
        result = {}
        for key, value in pairs:
            result.setdefault(key, value)
    return result


class _ExactReader:
    """Recursive descent over bytes; every error offset is where RapidJSON's reader stops."""

    def __init__(self, data: bytes, start: int):
        # A NUL ends the document for RapidJSON, inside the body as at its end.
        self._data = data + b"\0"
        self._at = start

    def document(self) -> object:
        self._skip_space()
        if self._peek() == 0:
            raise self._error("The document is empty.")
        value = self._value()
        self._skip_space()
        if self._peek() != 0:
            raise self._error("The document root must not be followed by other values.")
        return value

    def _peek(self) -> int:
        return self._data[self._at] if self._at < len(self._data) else 0

    def _skip_space(self) -> None:
        self._at = _SPACE.match(self._data, self._at).end()

    def _consume(self, byte: int) -> bool:
        found = self._peek() == byte
        self._at += found
        return found

    def _error(self, text: str, offset: int | None = None):
        return _error(text, self._at if offset is None else offset)

    def _value(self) -> object:
        first = self._peek()
        if first == ord('"'):
            return self._string()
        if first == ord("["):
            return self._array()
        if first == ord("{"):
            return self._object()
        for word, value in ((b"null", None), (b"true", True), (b"false", False)):
            if first == word[0]:
                self._word(word)
                return value
        return self._number()

    def _word(self, word: bytes) -> None:
        for byte in word:
            if not self._consume(byte):
                raise self._error("Invalid value.")

    def _object(self) -> dict:
        self._at += 1
        self._skip_space()
        result: dict = {}
        if self._consume(ord("}")):
            return result
        while True:
            if self._peek() != ord('"'):
                raise self._error("Missing a name for object member.")
            key = self._string()
            self._skip_space()
            if not self._consume(ord(":")):
                raise self._error("Missing a colon after a name of object member.")
            self._skip_space()
            result.setdefault(key, self._value())
            self._skip_space()
            if self._consume(ord("}")):
                return result
            if not self._consume(ord(",")):
                raise self._error("Missing a comma or '}' after an object member.")
            self._skip_space()

    def _array(self) -> list:
        self._at += 1
        self._skip_space()
        result: list = []
        if self._consume(ord("]")):
            return result
        while True:
            result.append(self._value())
            self._skip_space()
            if self._consume(ord("]")):
                return result
            if not self._consume(ord(",")):
                raise self._error("Missing a comma or ']' after an array element.")
            self._skip_space()

    def _string(self) -> str:
        self._at += 1
        out = bytearray()
        while True:
            plain = _PLAIN.match(self._data, self._at)
            out += plain.group()
            self._at = plain.end()
            byte = self._peek()
            if byte == ord('"'):
                self._at += 1
                return from_bytes(bytes(out))
            if byte == ord("\\"):
                self._escape(out)
            elif byte == 0:
                raise self._error("Missing a closing quotation mark in string.")
            else:
                raise self._error("Invalid encoding in string.")

    def _escape(self, out: bytearray) -> None:
        start = self._at
        self._at += 1
        kind = self._peek()
        if kind in _ESCAPES:
            self._at += 1
            out.append(_ESCAPES[kind])
            return
        if kind != ord("u"):
            raise self._error("Invalid escape character in string.", start)
        self._at += 1
        point = self._hex4(start)
        if 0xD800 <= point <= 0xDFFF:
            paired = point <= 0xDBFF and self._consume(ord("\\")) and self._consume(ord("u"))
            low = self._hex4(start) if paired else 0
            if not 0xDC00 <= low <= 0xDFFF:
                raise self._error("The surrogate pair in string is invalid.", start)
            point = ((point - 0xD800) << 10 | (low - 0xDC00)) + 0x10000
        out += chr(point).encode("utf-8")

    def _hex4(self, start: int) -> int:
        digits = self._data[self._at : self._at + 4]
        if not re.fullmatch(rb"[0-9a-fA-F]{4}", digits):
            raise self._error("Incorrect hex digit after \\u escape in string.", start)
        self._at += 4
        return int(digits, 16)

    def _number(self) -> int | float:
        start = self._at
        minus = self._consume(ord("-"))
        whole = _INTEGER.match(self._data, self._at)
        if whole is None:
            return self._special(minus)
        self._at = whole.end()
        read = _integer
        if self._consume(ord(".")):
            read = _double
            self._digits("Miss fraction part in number.")
        if self._peek() in b"eE":
            self._at += 1
            read = _double
            self._at += self._peek() in b"+-"
            self._digits("Miss exponent in number.")
        try:
            return read(self._data[start : self._at])
        except OverflowError:
            raise self._error("Number too big to be stored in double.", start) from None

    def _digits(self, missing: str) -> None:
        found = _DIGITS.match(self._data, self._at)
        if found is None:
            raise self._error(missing)
        self._at = found.end()

    def _special(self, minus: bool) -> float:
        if self._peek() == ord("N"):
            self._word(b"NaN")
            return float("nan")
        if self._peek() == ord("I"):
            self._word(b"Inf")
            if self._peek() == ord("i"):
                self._word(b"inity")
            return float("-inf") if minus else float("inf")
        raise self._error("Invalid value.")
