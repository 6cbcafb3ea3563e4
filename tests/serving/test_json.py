"""Reading and writing JSON as the server does."""

import json
import math
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.double.errors import ApiError
from serving.double.json_reader import _ExactReader, from_bytes, read_json, to_bytes
from serving.double.json_writer import PrettyWriter, debug_text, error_body, float_texts, string_text


def exact(body: bytes) -> object:
    return _ExactReader(body, 0).document()


def error_of(body: bytes) -> str:
    with pytest.raises(ApiError) as caught:
        read_json(body)
    assert caught.value.http_status == 400
    return caught.value.message.removeprefix("JSON Parse error: ")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "The document is empty"),
        (b"  ", "The document is empty. at offset: 2"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a":1 "b"', "Missing a comma or '}' after an object member. at offset: 7"),
        (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b"[nan]", "Invalid value. at offset: 2"),
        (b"[Infinit]", "Invalid value. at offset: 8"),
        (b"[tru]", "Invalid value. at offset: 4"),
        (b"{} x", "The document root must not be followed by other values. at offset: 3"),
        (b"[1e400]", "Number too big to be stored in double. at offset: 1"),
        (b"[1.]", "Miss fraction part in number. at offset: 3"),
        (b"[1e]", "Miss exponent in number. at offset: 3"),
        (b"[-]", "Invalid value. at offset: 2"),
        (b"[01]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b'["\\ud83d"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b'["\\ude00"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b'["\\u12g4"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
        (b'["a\\x"]', "Invalid escape character in string. at offset: 3"),
        (b'["a', "Missing a closing quotation mark in string. at offset: 3"),
        (b'["a\nb"]', "Invalid encoding in string. at offset: 3"),
        (b"[" * 100_000, "nested too deeply for the development double (a tensor has at most 254 dimensions)"),
    ],
)
def test_parse_errors_carry_the_servers_text_and_offset(body, text):
    assert error_of(body) == text


def test_what_python_would_read_otherwise():
    assert read_json(b'\xef\xbb\xbf{"a":1,"a":2}') == {"a": 1}, "the first of two equal keys wins"
    assert read_json(b"[Inf,-Inf,Infinity,-Infinity]") == [math.inf, -math.inf, math.inf, -math.inf]
    assert all(math.isnan(value) for value in read_json(b"[NaN,-NaN]"))
    assert read_json(b'["\\ud83d\\ude00"]') == ["\U0001f600"]
    for literal in ("1e3", "1.0", "18446744073709551616", "-9223372036854775809"):
        assert isinstance(read_json(f"[{literal}]".encode())[0], float), literal
    for literal in ("18446744073709551615", "-9223372036854775808", "-0"):
        assert read_json(f"[{literal}]".encode()) == [int(literal)]


def test_strings_keep_bytes_that_are_no_utf8():
    [text] = read_json(b'["a\xff\\n"]')
    assert to_bytes(text) == b"a\xff\n"
    assert from_bytes(b"a\xff\n") == text


_documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(_documents, st.booleans())
def test_both_readers_agree_with_python_on_valid_documents(document, ascii_only):
    body = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert read_json(body) == exact(body) == json.loads(body)


@settings(max_examples=300, deadline=None)
@given(st.text('{}[]":,\\u0123456789eE+-.nfNaIity \t\0tru', max_size=30) | st.binary(max_size=30))
def test_no_document_raises_anything_but_an_api_error(text):
    body = text if isinstance(text, bytes) else text.encode()
    try:
        result = read_json(body)
    except ApiError as error:
        assert error.message.startswith("JSON Parse error: ")
        return
    assert repr(exact(body)) == repr(result), "the fast and the exact reader must not differ"
    debug_text(result)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (math.pi, "3.14159274"),  # 6 digits read back as another float, so 9 are written
        (9e6, "9e+06"),
        (999999.0, "999999.0"),
        (717887168.0, "717887168.0"),
        (1e-5, "1e-05"),
        (-0.0, "-0.0"),
        (0.5, "0.5"),
        (2.0, "2.0"),
        (1e10, "1e+10"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_float32_text(value, text):
    assert float_texts(np.array([value], np.float32)) == [text]


def test_float64_text():
    assert float_texts(np.array([math.pi, 0.1, 1 / 3])) == ["3.1415926535897931", "0.1", "0.33333333333333331"]


def test_every_float_text_reads_back_as_the_same_float():
    random.seed(5)
    bits = [random.getrandbits(32) for _ in range(2000)]
    values = np.array([struct.unpack("f", struct.pack("I", word))[0] for word in bits], np.float32)
    back = np.array([float(text) for text in float_texts(values)]).astype(np.float32)
    np.testing.assert_array_equal(back, values)


def test_strings_escape_control_characters_only():
    assert string_text('a"\\\n\x1f/é') == '"a\\"\\\\\\n\\u001F/é"'


def test_layout_is_the_servers():
    writer = PrettyWriter()
    writer.start_object()
    writer.key("outputs")
    writer.start_array()
    writer.extend(["1", "2"])
    writer.end()
    writer.key("none")
    writer.start_array()
    writer.end()
    writer.end()
    assert writer.text() == '{\n    "outputs": [\n        1,\n        2\n    ],\n    "none": []\n}'
    assert error_body('no "x"') == '{\n    "error": "no \\"x\\""\n}'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, "x", None]}, '{\n    "a": [1, "x", null]\n}'),
        (1.0, "1.0"),
        (1000.0, "1000.0"),
        (-0.25, "-0.25"),
        (1e21, "1e21"),
        (1e20, "100000000000000000000.0"),
        (1.5e-7, "1.5e-7"),
        (0.000012, "0.000012"),
        ([1, math.nan, 2], "[1, "),
    ],
)
def test_values_quoted_in_errors(value, text):
    assert debug_text(value) == text
