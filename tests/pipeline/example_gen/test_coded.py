"""Codes, the total order and ragged ranges, with numbers worked out by hand."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.example_gen import coded
from pipeline.example_gen.coded import CodedColumn, ragged, total_order


def column(values, kind):
    return CodedColumn.of(pa.chunked_array([pa.array(values, kind)]))


def test_codes_ascend_with_the_values():
    made = column(["b", "", "é", "a", "b"], pa.string())
    assert made.codes.tolist() == [2, 0, 3, 1, 2]
    assert made.values.to_pylist() == [b"", b"a", b"b", "é".encode()]


def test_numbers_with_nan_last_and_one_zero():
    made = column([2.0, np.nan, -0.0, np.nan, 0.0, -1.0], pa.float32())
    assert made.codes.tolist() == [2, 3, 1, 3, 1, 0]
    assert not np.signbit(made.values[1].as_py())
    assert made.present().tolist() == [True, False, True, False, True, True]


def test_chunks_are_coded_as_one_column():
    made = CodedColumn.of(pa.chunked_array([["b"], ["a", "b"]]))
    assert made.codes.tolist() == [1, 0, 1]


def test_text_is_present_unless_empty():
    assert column(["", "x"], pa.string()).present().tolist() == [False, True]


def test_an_empty_column():
    made = column([], pa.string())
    assert made.codes.tolist() == [] and made.present().tolist() == [] and made.code_of("x") == -1
    assert made.take(np.array([], np.int64)).to_pylist() == []


def test_replaced_adds_a_value_that_was_not_there():
    made = column(["a", "b"], pa.string()).replaced(np.array([False, True]), "click")
    assert made.take(np.array([0, 1])).to_pylist() == [b"a", b"click"]


def test_replaced_reuses_a_value():
    made = column(["a", "b"], pa.string()).replaced(np.array([False, True]), "a")
    assert made.values.to_pylist() == [b"a", b"b"] and made.codes.tolist() == [0, 0]


@pytest.mark.parametrize("key_range", [2**62, 4])
def test_total_order_sorts_and_keeps_one_of_equals(key_range, monkeypatch):
    # 4 forces a second key, as wide columns do.
    monkeypatch.setattr(coded, "_KEY_RANGE", key_range)
    first = column(["b", "a", "b", "a", "b"], pa.string())
    second = column([1, 9, 0, 9, 1], pa.int64())
    assert total_order([first, second]).tolist() == [1, 2, 0]


def test_ragged():
    index, offsets = ragged(np.array([5, 0, 7]), np.array([2, 0, 3]))
    assert index.tolist() == [5, 6, 7, 8, 9]
    assert offsets.tolist() == [0, 2, 2, 5]


def test_ragged_of_nothing():
    index, offsets = ragged(np.array([], np.int64), np.array([], np.int64))
    assert index.tolist() == [] and offsets.tolist() == [0]
