"""Small SavedModels whose answers can be computed by hand, and a server over them."""

import os
import pathlib
import shutil
import time

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest
import requests

from serving.local_server import running_server


def save_scaled(folder, factor):
    """y = factor * x, so an answer tells its version; signature `pair`: s = a - b and p = a * b."""
    import tensorflow as tf

    module = tf.Module()
    module.factor = tf.Variable(float(factor))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def scaled(x):
        return {"y": module.factor * x}

    vector = tf.TensorSpec([None], tf.float64)

    @tf.function(input_signature=[vector, vector])
    def pair(a, b):
        return {"s": a - b, "p": a * b}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": scaled, "pair": pair})


def save_texts(folder):
    """Strings in and out, a half-precision input, an output without a batch dimension and a failing assertion."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec(None, tf.string, name="s")])
    def twice(s):
        return {"text": s + s, "raw_bytes": s + s}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float16, name="h")])
    def half(h):
        return {"h": h}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def total(x):
        tf.debugging.assert_less(x, 100.0, message="x is too large")
        return {"total": tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def doubled(inputs):
        parsed = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        return {"outputs": 2.0 * parsed["x"]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def labelled(inputs):
        scores = tf.concat([doubled(inputs)["outputs"], tf.ones([tf.size(inputs), 1])], 1)
        return {"classes": tf.fill(tf.shape(scores), "c"), "scores": scores}

    signatures = {"serving_default": twice, "half": half, "total": total, "doubled": doubled, "labelled": labelled}
    tf.saved_model.save(module, str(folder), signatures=signatures)


def save_kinds(folder):
    """One signature per type, named as it, that gives back what comes; `uneven`: outputs of N and N + 1 rows."""
    import tensorflow as tf

    module = tf.Module()
    kinds = (tf.float32, tf.float64, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint32, tf.uint64, tf.bool)
    signatures = {
        kind.name: tf.function(lambda x: {"y": tf.identity(x)}).get_concrete_function(
            tf.TensorSpec(None, kind, name="x")
        )
        for kind in (*kinds, tf.string, tf.complex64)
    }
    vector = tf.TensorSpec([None], tf.float32, name="x")
    signatures["uneven"] = tf.function(lambda x: {"a": x, "b": tf.concat([x, [0.0]], 0)}).get_concrete_function(vector)
    signatures["logarithm"] = tf.function(lambda x: {"y": tf.math.log(x)}).get_concrete_function(vector)
    module.functions = list(signatures.values())
    tf.saved_model.save(module, str(folder), signatures={**signatures, "serving_default": signatures["float32"]})


def save_slow(folder):
    """Counts to `rounds[0]` in a loop of the graph, so that a request takes as long as a test wants."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="rounds")])
    def count(rounds):
        counted = tf.constant(0, tf.int64)
        while counted < rounds[0]:
            counted += 1
        return {"counted": tf.reshape(counted, [1])}

    module.count = count
    tf.saved_model.save(module, str(folder), signatures=count)


def save_ranker(folder, vocabulary_file, *, more_features=False):
    """The `rank` signature: weight of the category (a hash table over an asset file; 0 for unknown ones)
    + 0.125 * (events with the candidate's item) + 0.25 * age + price, NaN counting as 0; + 0.5 where scene is "feed".
    """
    import tensorflow as tf

    text, number = tf.string, tf.float32
    module = tf.Module()
    initializer = tf.lookup.TextFileInitializer(
        str(vocabulary_file), text, 0, number, 1, delimiter="\t"
    )  # lines "category<tab>weight"
    module.table = tf.lookup.StaticHashTable(initializer, 0.0)
    one, two = [None], [None, None]
    columns = {
        "timestamp": (one, tf.int64),
        "scene": (one, text),
        "age": (one, number),
        "moveline_item_id": (two, text),
        "moveline_category_id": (two, text),
        "moveline_scene": (two, text),
        "moveline_behavior": (two, text),
        "moveline_timestamp": (two, tf.int64),
        "candidate_item_id": (two, text),
        "candidate_category_id": (two, text),
        "candidate_price": (two, number),
        "candidate_brand": (two, text),
    }
    if more_features:
        columns["city"] = (one, text)

    def or_zero(value):
        return tf.where(tf.math.is_nan(value), 0.0, value)

    def score(**inputs):
        touched = tf.equal(inputs["candidate_item_id"][:, :, None], inputs["moveline_item_id"][:, None, :])
        score = module.table.lookup(inputs["candidate_category_id"])
        score += 0.125 * tf.reduce_sum(tf.cast(touched, number), 2)
        user = 0.25 * or_zero(inputs["age"]) + 0.5 * tf.cast(tf.equal(inputs["scene"], "feed"), number)
        return {"probability": score + user[:, None] + or_zero(inputs["candidate_price"])}

    specs = {name: tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in columns.items()}
    # Dates of the events come back, so that a test sees which order they arrived in.
    times = tf.function(lambda **inputs: {"times": tf.identity(inputs["moveline_timestamp"])})
    module.rank = tf.function(score).get_concrete_function(**specs)
    module.times = times.get_concrete_function(**specs)
    tf.saved_model.save(module, str(folder), signatures={"rank": module.rank, "times": module.times})


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> pathlib.Path:
    """Folder of single SavedModels to copy push folders from, one for each function above (scaled_2 and scaled_3)."""
    root = tmp_path_factory.mktemp("saved_models")
    vocabulary = root / "weights.txt"
    vocabulary.write_text("shoes\t0.5\nhats\t0.25\n")
    save_scaled(root / "scaled_2", 2)
    save_scaled(root / "scaled_3", 3)
    save_texts(root / "texts")
    save_kinds(root / "kinds")
    save_slow(root / "slow")
    save_ranker(root / "ranker", vocabulary)
    save_ranker(root / "ranker_city", vocabulary, more_features=True)
    vocabulary.unlink()  # the copies in assets/ must do
    return root


@pytest.fixture(scope="session")
def push(saved):
    """push(model, base, version): pushes a version the way an atomic pusher does, by a rename."""

    def push_version(model, base, version):
        base.mkdir(parents=True, exist_ok=True)
        staged = base / f"tmp.{version}"
        shutil.copytree(saved / model, staged)
        staged.rename(base / str(version))

    return push_version


@pytest.fixture(scope="session")
def write_warmup():
    """write_warmup(version_folder, *records): records are dicts of inputs (floats, or arrays), or bytes."""

    def write(folder, *records):
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

        (folder / "assets.extra").mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
            for record in records:
                if isinstance(record, dict):
                    request = predict_pb2.PredictRequest()
                    for name, value in record.items():
                        kind = None if hasattr(value, "dtype") else tf.float32
                        request.inputs[name].CopyFrom(tf.make_tensor_proto(value, kind))
                    predict_log = prediction_log_pb2.PredictLog(request=request)
                    record = prediction_log_pb2.PredictionLog(predict_log=predict_log).SerializeToString()
                writer.write(record)

    return write


@pytest.fixture(scope="session")
def server(push, tmp_path_factory):
    """A running server with the models scaled (versions 2 and 3, labels stable and canary), texts, kinds and amen."""
    root = tmp_path_factory.mktemp("push")
    push("scaled_2", root / "scaled", "0002")
    push("scaled_3", root / "scaled", 3)
    push("texts", root / "texts", 1)
    push("kinds", root / "kinds", 1)
    push("ranker", root / "amen", 17)
    (root / "models.config").write_text(
        f"""model_config_list {{
          config {{ name: "scaled" base_path: "{root}/scaled" model_platform: "tensorflow"
            model_version_policy {{ specific {{ versions: 2 versions: 3 }} }}
            version_labels {{ key: "stable" value: 2 }} version_labels {{ key: "canary" value: 3 }} }}
          config {{ name: "texts" base_path: "{root}/texts" model_platform: "tensorflow" }}
          config {{ name: "kinds" base_path: "{root}/kinds" model_platform: "tensorflow" }}
          config {{ name: "amen" base_path: "{root}/amen" model_platform: "tensorflow" }}
        }}"""
    )
    with running_server(None, models_config=root / "models.config") as running:
        yield running


@pytest.fixture(scope="session")
def call(server):
    """call(path, body=None, **options) -> requests.Response; a dict is sent as JSON, any body by POST."""
    session = requests.Session()
    session.trust_env = False

    def send(path, body=None, method=None, **options):
        key = "json" if isinstance(body, dict) else "data"
        method = method or ("GET" if body is None else "POST")
        return session.request(method, server.address + path, timeout=10, **{key: body}, **options)

    return send


@pytest.fixture(scope="session")
def wait_until():
    """wait_until(condition): polls for at most 10 s."""

    def wait(condition):
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "the condition did not come true within 10 s"
            time.sleep(0.02)

    return wait
