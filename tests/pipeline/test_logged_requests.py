"""Logged requests of every form are the same rows; and `amen skew`'s findings on distributions made by hand."""

import base64
import json
import math

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from amen_tf.features import Feature, FeatureContract
from pipeline.logged_requests import LoggedRequestError, read_requests, request_files
from pipeline.skew import findings, statistics_of
from schemas.loader import schema_for
from tests.pipeline.records import write_tfrecord

T = 1_700_000_000
CONTRACT = FeatureContract(
    3,
    2,
    (
        Feature("price", "candidate", "numeric"),
        Feature("device", "context", "categorical"),
        Feature("age", "user", "numeric"),
    ),
)
# Five events, of which the model reads the newest three; an age that nobody knows.
REQUEST = {
    "user_id": "u",
    "timestamp": T,
    "scene": "feed",
    "context": {"device": "phone"},
    "moveline": [
        {"timestamp": T - 10 + n, "scene": "live", "behavior": "click", "item_id": f"i{n}", "category_id": "c"}
        for n in range(5)
    ],
    "candidates": [{"item_id": "a", "price": 1.5}, {"item_id": "b", "category_id": "d"}],
}
COLUMNS = {
    "timestamp": [T],
    "scene": ["feed"],
    "device": ["phone"],
    "age": [math.nan],
    "moveline_item_id": [[f"i{n}" for n in range(5)] + [""]],
    "moveline_category_id": [["c"] * 5 + [""]],
    "moveline_scene": [["live"] * 5 + [""]],
    "moveline_behavior": [["click"] * 5 + [""]],
    "moveline_timestamp": [[T - 10 + n for n in range(5)] + [0]],
    "candidate_item_id": [["a", "b", ""]],
    "candidate_category_id": [["", "d", ""]],
    "candidate_price": [[1.5, math.nan, 0.0]],
}
EXPECTED = {
    "timestamp": [T],
    "scene": [b"feed"],
    "device": [b"phone"],
    "moveline_item_id": [b"i2", b"i3", b"i4"],
    "moveline_category_id": [b"c"] * 3,
    "moveline_scene": [b"live"] * 3,
    "moveline_behavior": [b"click"] * 3,
    "moveline_timestamp": [T - 8, T - 7, T - 6],
    "candidate_item_id": [b"a", b"b"],
    "candidate_category_id": [b"", b"d"],
    "candidate_price": [1.5, pytest.approx(math.nan, nan_ok=True)],
}
DTYPES = {"timestamp": tf.int64, "moveline_timestamp": tf.int64, "candidate_price": tf.float32, "age": tf.float32}


def example():
    made = tf.train.Example()
    for name, (values, *_) in COLUMNS.items():
        values = values if isinstance(values, list) else [values]
        feature = made.features.feature[name]
        if name.endswith("timestamp"):
            feature.int64_list.value.extend(values)
        elif name in DTYPES:
            feature.float_list.value.extend(values)
        else:
            feature.bytes_list.value.extend(value.encode() for value in values)
    return made.SerializeToString()


def prediction_log(inputs):
    log = prediction_log_pb2.PredictionLog()
    for name, values in inputs.items():
        tensor = tf.make_tensor_proto(values, DTYPES.get(name, tf.string))
        log.predict_log.request.inputs[name].CopyFrom(tensor)
    return log.SerializeToString()


def as_b64(value):
    """Every text as the bytes that :predict may be sent."""
    if isinstance(value, str):
        return {"b64": base64.b64encode(value.encode()).decode()}
    if isinstance(value, dict):
        return {name: as_b64(part) for name, part in value.items()}
    return [as_b64(part) for part in value] if isinstance(value, list) else value


def write(folder, name):
    path = folder / name
    if name == "request.json":
        path.write_text(json.dumps(REQUEST))
    elif name == "requests.jsonl":
        path.write_text(f"{json.dumps(REQUEST)}\n\n")
    elif name == "bodies.jsonl":
        path.write_text(json.dumps({"signature_name": "rank", "inputs": COLUMNS}))
    elif name == "instances.jsonl":
        path.write_text(json.dumps({"instances": [{name: values[0] for name, values in COLUMNS.items()}]}))
    elif name == "list.json":
        path.write_text(json.dumps([REQUEST]))
    elif name == "b64.jsonl":
        path.write_text(json.dumps({"inputs": as_b64(COLUMNS)}))
    elif name == "default.jsonl":
        path.write_text(json.dumps({"instances": [{"examples": {"b64": base64.b64encode(example()).decode()}}]}))
    elif name == "bare.jsonl":
        path.write_text(json.dumps({"instances": [{"b64": base64.b64encode(example()).decode()}]}))
    elif name == "examples.tfrecord.gz":
        write_tfrecord(path, [example()])
    elif name == "log.tfrecord":
        write_tfrecord(path, [prediction_log(COLUMNS)])
    elif name == "default.tfrecord":
        write_tfrecord(path, [prediction_log({"examples": [example()]})])
    return path


FORMS = [
    *("request.json", "requests.jsonl", "bodies.jsonl", "instances.jsonl", "list.json"),
    *("b64.jsonl", "default.jsonl", "bare.jsonl"),
    *("examples.tfrecord.gz", "log.tfrecord", "default.tfrecord"),
]


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_row(name, tmp_path):
    (batch,) = read_requests(str(write(tmp_path, name)), CONTRACT)
    # Padding is left out, and so is an age that is not known.
    assert batch.to_pylist() == [EXPECTED]


def test_files_are_found_below_a_folder(tmp_path):
    (tmp_path / "day").mkdir()
    paths = [write(tmp_path / "day", name) for name in FORMS]
    (tmp_path / "notes.txt").write_text("none")
    assert request_files(tmp_path) == sorted(map(str, paths))
    assert request_files(paths[0]) == [str(paths[0])]
    with pytest.raises(LoggedRequestError, match="No logged requests at .*none: expected files ending in .json"):
        request_files(tmp_path / "none")


def test_many_requests_come_in_parts(tmp_path):
    bare = {**REQUEST, "moveline": []}
    (tmp_path / "r.jsonl").write_text("\n".join([json.dumps(bare)] * 1500))
    first, second = read_requests(str(tmp_path / "r.jsonl"), CONTRACT)
    assert (first.num_rows, second.num_rows) == (1024, 476)
    assert first.column("moveline_item_id").to_pylist()[0] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 2: expected JSON"),
        ('{"a": 1}', "line 2: no request of this model: expected the keys moveline and candidates, or inputs"),
        (json.dumps({**REQUEST, "context": {"colour": "red"}}), "line 2: no request of this model.*colour"),
        ('{"inputs": {"scene": ["a"], "timestamp": [1, 2]}}', "as many values in every input"),
        ('{"inputs": {"scene": [], "moveline_item_id": 5}}', "line 2: no request of this model"),
        ('{"inputs": {"scene": ["feed"]}}', "expected a request with candidate_item_id, got the columns scene"),
        (
            '{"instances": [{"candidate_item_id": ["a"], "moveline_behavior": ["x", "y"], "moveline_item_id": ["a"]}]}',
            "as many values in moveline_item_id as in moveline_behavior, 2, got 1",
        ),
        ('{"instances": [{"candidate_item_id": ["a"], "timestamp": "soon"}]}', "timestamp is not int throughout"),
        ('{"instances": [{"b64": "AAAA"}]}', "line 2: no request of this model"),
        ("[5]", "line 2: no request of this model"),
    ],
)
def test_what_is_no_request_is_named_with_its_line(text, message, tmp_path):
    (tmp_path / "r.jsonl").write_text(f"{json.dumps(REQUEST)}\n{text}\n")
    with pytest.raises(LoggedRequestError, match=message):
        list(read_requests(str(tmp_path / "r.jsonl"), CONTRACT))


def test_a_record_that_is_neither(tmp_path):
    write_tfrecord(tmp_path / "r.tfrecord", [b"\xff\xfe nothing"])
    with pytest.raises(LoggedRequestError, match="r.tfrecord, record 1: no request of this model"):
        list(read_requests(str(tmp_path / "r.tfrecord"), CONTRACT))


def served(folder, **changes):
    folder.mkdir()
    (folder / "r.jsonl").write_text("\n".join(json.dumps({**REQUEST, **changes}) for _ in range(50)))
    return statistics_of(folder, CONTRACT, folder)


def test_skew_is_found_and_only_where_it_is(tmp_path):
    schema, train = schema_for(CONTRACT), served(tmp_path / "train")
    assert findings(train, served(tmp_path / "same"), schema) == []
    ((feature, what, _),) = findings(train, served(tmp_path / "scene", scene="search"), schema)
    assert (feature, what) == ("scene", "Skew")
    cheap = [{"item_id": "a", "price": 900.0}, {"item_id": "b", "category_id": "d", "price": 900.0}]
    assert [found[:2] for found in findings(train, served(tmp_path / "price", candidates=cheap), schema)] == [
        ("candidate_price", "Skew")
    ]


def test_what_the_schema_does_not_allow_in_a_request_is_found_and_labels_are_not_asked_for(tmp_path):
    found = findings(
        served(tmp_path / "train"), served(tmp_path / "old", timestamp=60, moveline=[]), schema_for(CONTRACT)
    )
    assert ("timestamp", "Out-of-range values") in [row[:2] for row in found]
    assert not any(feature.startswith(("label", "future", "diff", "user_id")) for feature, _, _ in found)
