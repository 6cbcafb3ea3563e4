"""JSON without NaN."""

import json

import numpy as np
import pytest

from amen_tf.strict_json import to_json


def refuse(name):
    raise AssertionError(f"{name} is not JSON")


def test_what_is_no_number_is_null():
    content = {"a": float("nan"), "b": [1.5, float("inf")], "c": ({"d": -float("inf")}, 2), "e": "NaN", "f": None}
    expected = {"a": None, "b": [1.5, None], "c": [{"d": None}, 2], "e": "NaN", "f": None}
    assert json.loads(to_json(content), parse_constant=refuse) == expected


def test_numbers_of_numpy_that_are_python_floats_are_kept():
    assert json.loads(to_json({"a": np.float64("nan"), "b": np.float64(0.25)})) == {"a": None, "b": 0.25}


def test_what_json_cannot_hold_is_an_error():
    with pytest.raises(TypeError):
        to_json({"a": object()})
