"""Warm-up requests: one for every signature and number of candidates, answered before they are kept."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from amen_tf.features import Feature, FeatureContract
from pipeline.trainers.warmup import WARMUP_FILE, WarmupError, write_warmup
from serving.double.warmup import WARMUP_FILE as REPLAYED

CONTRACT = FeatureContract(4, 2, (Feature("price", "candidate", "numeric"), Feature("hour", "context", "categorical")))
DTYPES = {"string": tf.string, "int": tf.int64, "float": tf.float32}
WORDS = {"item_id": ["i1", "i2", "i3"], "scene": ["feed"]}


class Toy(tf.Module):
    """Signatures with the inputs of a CTR model; `most`: candidates above which it fails in the graph."""

    def __init__(self, most=1000):
        super().__init__()
        shapes = {True: (None,), False: (None, None)}
        moveline, rest = CONTRACT.moveline_columns, (*CONTRACT.request_columns, *CONTRACT.candidate_columns)
        specs = {c.name: tf.TensorSpec(shapes[c.scalar], DTYPES[c.kind], c.name) for c in (*moveline, *rest)}
        flow = {name: tf.TensorSpec((None, 2), tf.float32, name) for name in ("flow", "diversity", "velocity")}
        known = {name: spec for name, spec in specs.items() if name.startswith("moveline_") or name == "timestamp"}

        def scores(columns):
            count = tf.shape(columns["candidate_item_id"])[1]
            with tf.control_dependencies([tf.debugging.assert_less_equal(count, most)]):
                return {"probability": columns["candidate_price"] + tf.reduce_sum(columns.get("flow", 0.0))}

        def interest_flow(columns):
            value = tf.cast(columns["moveline_timestamp"][:, -2:], tf.float32)
            return dict.fromkeys(flow, value)

        def serving_default(examples):
            return {"probability": tf.strings.length(examples)}

        given = {"rank": (scores, specs), "rank_with_flow": (scores, {**specs, **flow})}
        given |= {"interest_flow": (interest_flow, known)}
        made = {name: tf.function(f, autograph=False).get_concrete_function(s) for name, (f, s) in given.items()}
        spec = tf.TensorSpec((None,), tf.string, "examples")
        made["serving_default"] = tf.function(serving_default).get_concrete_function(spec)
        self.exported = made

    def export(self, folder):
        tf.saved_model.save(self, str(folder), signatures=self.exported)
        return self.exported


def read(folder):
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(folder / WARMUP_FILE))
    ]
    requests = [log.predict_log.request for log in logs]
    return [
        (r.model_spec.signature_name, {n: tf.make_ndarray(value) for n, value in r.inputs.items()}) for r in requests
    ]


def test_a_request_for_every_signature_and_number_of_candidates(tmp_path):
    signatures = Toy().export(tmp_path)
    assert write_warmup(tmp_path, signatures, CONTRACT, WORDS, (1, 7)) == 6
    found = read(tmp_path)
    assert [name for name, _ in found] == [
        *("interest_flow", "rank", "rank_with_flow", "rank", "rank_with_flow", "serving_default")
    ]
    assert [inputs["candidate_item_id"].shape for name, inputs in found if name == "rank"] == [(1, 1), (1, 7)]
    _, rank = found[3]
    assert rank["moveline_item_id"].tolist() == [[b"i1", b"i2", b"i3", b"i1"]] and rank["scene"].tolist() == [b"feed"]
    # What has no vocabulary is a word that no model knows.
    assert rank["hour"].tolist() == [b"warm-up"] and rank["candidate_price"].tolist() == [[0.0] * 7]
    then, now = rank["moveline_timestamp"][0], rank["timestamp"][0]
    assert (np.diff(then) > 0).all() and then[-1] < now
    # The flow is the one that the model gives for that moveline.
    _, with_flow = found[4]
    np.testing.assert_array_equal(with_flow["flow"], then[np.newaxis, -2:].astype(np.float32))
    assert with_flow.keys() == rank.keys() | {"flow", "diversity", "velocity"}
    example = tf.train.Example.FromString(found[5][1]["examples"][0])
    assert len(example.features.feature["candidate_item_id"].bytes_list.value) == 7


def test_the_file_is_the_one_that_the_double_replays():
    assert WARMUP_FILE == REPLAYED


def test_models_without_a_flow_have_no_requests_for_one(tmp_path):
    toy = Toy()
    toy.exported = {name: toy.exported[name] for name in ("rank", "serving_default")}
    assert write_warmup(tmp_path, toy.export(tmp_path), CONTRACT, {}, (3,)) == 2
    assert [name for name, _ in read(tmp_path)] == ["rank", "serving_default"]


def test_a_model_that_fails_on_its_own_requests_fails_the_run(tmp_path):
    with pytest.raises(WarmupError, match=r"(?s)does not answer its own warm-up requests.*Record 4: .*"):
        write_warmup(tmp_path, Toy(most=5).export(tmp_path), CONTRACT, WORDS, (5, 6))
