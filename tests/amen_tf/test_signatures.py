"""The exported model: four signatures that agree, whatever the padding, and that need nothing but their folder."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from amen_tf.features import CANDIDATE_MASK, DIVERSITY, FLOW, LABEL, VELOCITY
from amen_tf.input import densify
from amen_tf.signatures import (
    CANDIDATE_WEIGHT,
    INTEREST_FLOW,
    PROBABILITY,
    RANK,
    RANK_WITH_FLOW,
    SERVING_DEFAULT,
    TRANSFORM_FEATURES,
    ServingModel,
    raw_feature_spec,
)
from tests.amen_tf.fake_transform import FakeTransform

L, NOW, WIDTH = 7, 1_700_000_000, 6
FILL = {"string": "", "int": 0, "float": 0.0}
DTYPES = {"string": tf.string, "int": tf.int64, "float": tf.float32}


def request(rng, events, candidates):
    """Raw columns of one request as lists."""

    def words(prefix, count):
        return [f"{prefix}{number}" for number in rng.integers(0, 40, count)]

    def lists(prefix, count):
        # None, one, two, or one more than is read.
        return ["|".join(words(prefix, number)) for number in rng.integers(0, 4, count)]

    columns = {"timestamp": NOW, "scene": words("scene", 1)[0], "device": words("device", 1)[0]}
    columns |= {"likes": lists("likes", 1)[0], "moveline_tags": lists("tags", events)}
    columns["candidate_tags"] = lists("tags", candidates)
    columns |= {f"moveline_{f}": words(f, events) for f in ("item_id", "category_id", "brand", "scene", "behavior")}
    columns["moveline_timestamp"] = sorted((NOW - rng.integers(1, 200_000, events)).tolist())
    columns |= {f"candidate_{f}": words(f, candidates) for f in ("item_id", "category_id", "brand", "position")}
    columns["candidate_price"] = rng.uniform(0, 16, candidates).tolist()
    return columns


@pytest.fixture(scope="module")
def asked():
    """No history, some, exactly L events and more than that; 5, 1, 3 and 4 candidates."""
    rng = np.random.default_rng(0)
    return [request(rng, events, count) for events, count in ((0, 5), (4, 1), (L, 3), (12, 4))]


def padded(contract, requests, side="right"):
    """Requests as the columns of `rank`: `[B]` and `[B, longest]`, padded with empty values."""
    rng, columns = np.random.default_rng(1), {}
    longest = {p: max(len(r[p + "item_id"]) for r in requests) + 2 for p in ("moveline_", "candidate_")}
    # Where the real values of each row lie; one choice for all columns of a list.
    places = []
    for one in requests:
        count, width = len(one["moveline_item_id"]), longest["moveline_"]
        between = np.sort(rng.permutation(width)[:count])
        places.append({"right": np.arange(count), "left": width - count + np.arange(count), "between": between}[side])
    for column in contract.request_columns:
        columns[column.name] = tf.constant([r[column.name] for r in requests], DTYPES[column.kind])
    for prefix, group in (("moveline_", contract.moveline_columns), ("candidate_", contract.candidate_columns)):
        for column in group:
            rows = []
            for one, place in zip(requests, places, strict=True):
                row, values = [FILL[column.kind]] * longest[prefix], one[column.name]
                for i, value in enumerate(values):
                    row[place[i] if prefix == "moveline_" else i] = value
                rows.append(row)
            columns[column.name] = tf.constant(rows, DTYPES[column.kind])
    return columns


def examples(contract, requests, labels=None):
    """Requests as serialized tf.Examples; what only training has is absent, but for labels where given."""
    serialized = []
    for number, one in enumerate(requests):
        features = tf.train.Example()
        for column in (*contract.request_columns, *contract.moveline_columns, *contract.candidate_columns):
            values = [one[column.name]] if column.scalar else one[column.name]
            feature = features.features.feature[column.name]
            if column.kind == "string":
                feature.bytes_list.value.extend(value.encode() for value in values)
            elif column.kind == "int":
                feature.int64_list.value.extend(values)
            else:
                feature.float_list.value.extend(values)
        if labels:
            features.features.feature["label"].int64_list.value.extend(labels[number])
        serialized.append(features.SerializeToString())
    return tf.constant(serialized)


@pytest.fixture(scope="module")
def exported(ctr, spec, tmp_path_factory):
    """What the live CTR model is served with, and the folder of its export."""
    folder = tmp_path_factory.mktemp("export") / "model"
    serving = ServingModel(ctr, spec.contract, FakeTransform(spec), WIDTH)
    serving.export(folder)
    return serving, folder


@pytest.fixture(scope="module")
def loaded(exported, generator_folder, tmp_path_factory):
    """The export, moved and loaded while the generator's own folder is gone."""
    away, folder = tmp_path_factory.mktemp("away") / "generator", tmp_path_factory.mktemp("pushed") / "model"
    shutil.copytree(exported[1], folder)
    shutil.move(generator_folder, away)
    try:
        return tf.saved_model.load(str(folder))
    finally:
        shutil.move(away, generator_folder)


@pytest.fixture(scope="module")
def rank(loaded, spec):
    """Returns a function requests -> probabilities of each request's own candidates."""

    def rank(requests, side="right"):
        outputs = loaded.signatures[RANK](**padded(spec.contract, requests, side))[PROBABILITY].numpy()
        return [row[: len(one["candidate_item_id"])] for row, one in zip(outputs, requests, strict=True)]

    return rank


def close(left, right, tolerance=1e-6):
    for one, other in zip(left, right, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_signatures_of_the_ctr_model(loaded):
    assert set(loaded.signatures) == {SERVING_DEFAULT, RANK, RANK_WITH_FLOW, INTEREST_FLOW, TRANSFORM_FEATURES}
    # These names are written into clients and deployments.
    assert (SERVING_DEFAULT, RANK, RANK_WITH_FLOW) == ("serving_default", "rank", "rank_with_flow")
    assert (INTEREST_FLOW, TRANSFORM_FEATURES) == ("interest_flow", "transform_features")


def test_inputs_are_those_of_the_contract(loaded, spec):
    def inputs(name):
        _, specs = loaded.signatures[name].structured_input_signature
        return {key: (value.dtype, value.shape.as_list()) for key, value in specs.items()}

    contract = spec.contract
    lists = {c.name: (DTYPES[c.kind], [None, None]) for c in (*contract.moveline_columns, *contract.candidate_columns)}
    single = {c.name: (DTYPES[c.kind], [None]) for c in contract.request_columns}
    assert inputs(RANK) == single | lists
    moveline = {name: value for name, value in lists.items() if name.startswith("moveline_")}
    assert inputs(INTEREST_FLOW) == {"timestamp": (tf.int64, [None])} | moveline
    for name in (SERVING_DEFAULT, TRANSFORM_FEATURES):
        assert inputs(name) == {"examples": (tf.string, [None])}


def test_all_inputs_share_dimension_0_so_that_a_server_may_batch(loaded):
    for signature in loaded.signatures.values():
        shapes = [tensor.shape for tensor in signature.inputs if tensor.dtype != tf.resource]
        assert shapes and all(shape.rank >= 1 and shape[0] is None for shape in shapes)


def test_columns_and_examples_give_the_same(loaded, rank, spec, asked):
    probability = loaded.signatures[SERVING_DEFAULT](examples=examples(spec.contract, asked))[PROBABILITY].numpy()
    # The width of the run at least, so that batches of an evaluation have one shape.
    assert probability.shape == (4, WIDTH) and probability.dtype == np.float32
    ranked = rank(asked)
    close([row[: len(one)] for row, one in zip(probability, ranked, strict=True)], ranked)
    assert all(0 < p < 1 for row in ranked for p in row)
    assert len({round(float(p), 6) for row in ranked for p in row}) == 13


def test_export_equals_the_live_model(exported, loaded, spec, asked):
    serving, _ = exported
    serialized = examples(spec.contract, asked)
    raw = tf.io.parse_example(serialized, raw_feature_spec(spec.contract))
    features = densify(FakeTransform(spec)(raw))
    expected = tf.sigmoid(serving.model(features, training=False)).numpy() * features[CANDIDATE_MASK].numpy()
    probability = loaded.signatures[SERVING_DEFAULT](examples=serialized)[PROBABILITY].numpy()
    close(probability[:, : expected.shape[1]], expected)
    assert (probability[:, expected.shape[1] :] == 0).all()


@pytest.mark.parametrize("side", ["left", "between"])
def test_where_a_moveline_is_padded_does_not_matter(rank, asked, side):
    close(rank(asked, side), rank(asked, "right"))


@pytest.mark.parametrize(
    "name", ["moveline_item_id", "moveline_timestamp", "moveline_behavior", "candidate_category_id"]
)
@pytest.mark.parametrize("change", ["longer", "shorter", "more rows"])
def test_lists_of_one_kind_that_differ_are_refused(loaded, spec, asked, name, change):
    columns = padded(spec.contract, asked)
    values = columns[name]
    changed = {
        "longer": tf.concat([values, values[:, :1]], 1),
        "shorter": values[:, :-1],
        "more rows": tf.concat([values, values], 0),
    }[change]
    signatures = ["rank"] + (["interest_flow"] if name.startswith("moveline") else [])
    for signature in signatures:
        inputs = loaded.signatures[signature].structured_input_signature[1]
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"Expected the shape of .*{name}"):
            loaded.signatures[signature](**{n: changed if n == name else columns[n] for n in inputs})


def test_padded_candidates_get_exactly_zero(loaded, spec, asked):
    probability = loaded.signatures[RANK](**padded(spec.contract, asked))[PROBABILITY].numpy()
    assert probability.shape == (4, 7)
    for row, one in zip(probability, asked, strict=True):
        count = len(one["candidate_item_id"])
        assert (row[count:] == 0.0).all() and (row[:count] > 0).all()


def test_requests_of_a_batch_do_not_change_one_another(rank, asked):
    together = rank(asked)
    for number, one in enumerate(asked):
        close(rank([one]), together[number : number + 1])


def test_one_candidate_gives_what_it_gives_among_five(rank, asked):
    one = asked[0]
    among = rank([one])[0]
    for n in range(5):
        alone = {name: value[n : n + 1] if name.startswith("candidate_") else value for name, value in one.items()}
        close(rank([alone])[0], among[n : n + 1])


def test_order_of_candidates_is_the_order_of_the_answer(rank, asked):
    turned = {n: value[::-1] if n.startswith("candidate_") else value for n, value in asked[3].items()}
    close(rank([turned])[0], rank([asked[3]])[0][::-1])


def test_no_candidates_get_an_empty_answer(loaded, spec, asked):
    columns = padded(spec.contract, asked)
    columns |= {name: value[:, :0] for name, value in columns.items() if name.startswith("candidate_")}
    assert loaded.signatures[RANK](**columns)[PROBABILITY].shape == (4, 0)


def test_example_without_columns_counts_as_empty(loaded, asked, spec):
    # A user with no history, no context, nothing but one candidate: an answer, not an error.
    bare = tf.train.Example()
    bare.features.feature["candidate_item_id"].bytes_list.value.append(b"item_id3")
    serialized = tf.concat([examples(spec.contract, asked[:1]), [bare.SerializeToString()]], 0)
    probability = loaded.signatures[SERVING_DEFAULT](examples=serialized)[PROBABILITY].numpy()
    assert 0 < probability[1, 0] < 1 and (probability[1, 1:] == 0).all()


def test_interest_flow_is_the_generators(exported, loaded, spec, asked):
    columns = padded(spec.contract, asked, "between")
    inputs = {n: value for n, value in columns.items() if n.startswith("moveline_") or n == "timestamp"}
    outputs = loaded.signatures[INTEREST_FLOW](**inputs)
    assert {name: value.shape.as_list() for name, value in outputs.items()} == {
        FLOW: [4, 3, 8],
        DIVERSITY: [4, 3],
        VELOCITY: [4, 3, 8],
    }
    serving, _ = exported
    expected = serving.model.flow(serving.features_of_columns(columns))
    close([outputs[name] for name in sorted(outputs)], [expected[name] for name in sorted(outputs)])
    # No history, so no velocity at t0.
    assert (outputs[VELOCITY].numpy()[0, 0] == 0).all()


def test_transform_features_are_what_the_model_reads(exported, loaded, spec, asked):
    labels = [[1, 0, 0, 1, 0], [1], [0, 0, 1], [0, 1, 0, 0]]
    outputs = loaded.signatures[TRANSFORM_FEATURES](examples=examples(spec.contract, asked, labels))
    weight = np.arange(WIDTH) < np.array([[5], [1], [3], [4]])
    for name in (CANDIDATE_WEIGHT, CANDIDATE_MASK):
        # Floats: an evaluation takes them as example weights.
        assert outputs[name].dtype == tf.float32
        np.testing.assert_array_equal(outputs[name], weight)
    assert [row[:n].tolist() for row, n in zip(outputs[LABEL].numpy(), (5, 1, 3, 4), strict=True)] == labels
    assert outputs["moveline_item_id"].shape == (4, L)
    logits = exported[0].model({**outputs, CANDIDATE_MASK: tf.constant(weight)}, training=False)
    probability = loaded.signatures[SERVING_DEFAULT](examples=examples(spec.contract, asked))[PROBABILITY]
    close(tf.sigmoid(logits).numpy() * weight, probability.numpy())


def test_export_needs_no_custom_ops(exported):
    # TensorFlow Serving has the core ops and no others.
    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((exported[1] / "saved_model.pb").read_bytes())
    ops = set()
    for graph in proto.meta_graphs:
        ops |= {node.op for node in graph.graph_def.node}
        ops |= {node.op for function in graph.graph_def.library.function for node in function.node_def}
    assert {"BatchMatMulV2", "ParseExampleV2", "GatherV2"} <= ops
    assert not any(op_def_registry.get(op) is None for op in ops)
    known = {name.lower() for name in dir(tf.raw_ops)}
    # raw_ops leaves out what Python code never calls by name.
    hidden = {"const", "varhandleop", "placeholder", "noop", "identity", "statefulpartitionedcall", "partitionedcall"}
    assert not {op for op in ops if op.lower() not in known | hidden}


def test_model_without_flow_has_the_same_signatures_but_the_flow(ctr_without_flow, base, spec, asked):
    serving = ServingModel(ctr_without_flow, spec.contract, FakeTransform(spec), WIDTH)
    signatures = serving.signatures()
    assert set(signatures) == {SERVING_DEFAULT, RANK, TRANSFORM_FEATURES} and not hasattr(base, "flow")
    probability = signatures[SERVING_DEFAULT](examples(spec.contract, asked))[PROBABILITY].numpy()
    ranked = signatures[RANK](padded(spec.contract, asked))[PROBABILITY].numpy()
    close(probability, ranked[:, :WIDTH])


def test_a_flow_computed_earlier_gives_the_same_scores(loaded, spec, asked):
    columns = padded(spec.contract, asked)
    known = {name: value for name, value in columns.items() if name == "timestamp" or name.startswith("moveline_")}
    flow = loaded.signatures[INTEREST_FLOW](**known)
    whole = loaded.signatures[RANK](**columns)[PROBABILITY].numpy()
    np.testing.assert_allclose(loaded.signatures[RANK_WITH_FLOW](**columns, **flow)[PROBABILITY], whole, atol=1e-6)
    # The flow that is given is the one that is read.
    other = {name: value[::-1] for name, value in flow.items()}
    assert np.abs(loaded.signatures[RANK_WITH_FLOW](**columns, **other)[PROBABILITY] - whole).max() > 1e-4


def gathers(function):
    """Variable -> how often rows are gathered from it, in a concrete function and in all that it calls."""
    graph = function.graph.as_graph_def()
    library = {called.signature.name: called for called in graph.library.function}
    found = {}

    def walk(nodes, given):
        # Where a name comes from: an argument's own source, or itself.
        sources = dict(given)
        for node in nodes:
            inputs = [sources.get(name.split(":")[0], name.split(":")[0]) for name in node.input]
            if node.op == "Identity":
                sources[node.name] = inputs[0]
            elif node.op == "ResourceGather":
                found[inputs[0]] = found.get(inputs[0], 0) + 1
            elif node.op in ("PartitionedCall", "StatefulPartitionedCall"):
                called = library[node.attr["f"].func.name]
                arguments = [argument.name for argument in called.signature.input_arg]
                walk(called.node_def, dict(zip(arguments, inputs, strict=True)))

    walk(graph.node, {})
    return found


@pytest.mark.parametrize("name", [RANK, RANK_WITH_FLOW, SERVING_DEFAULT])
def test_rows_of_a_table_are_gathered_once_a_request(exported, name):
    found = gathers(exported[0].exported[name])
    # Those of the base, of match features and sides, and of the generator, which has its own.
    assert len(found) >= 14 and set(found.values()) == {1}
