"""From examples to batches: padding and masks, order and shuffling, and flows that stay with their requests."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.features import CANDIDATE_MASK, DIVERSITY, FLOW, LABEL, USER_KEY, VELOCITY, is_of_candidates
from amen_tf.flows import FlowFile
from amen_tf.input import count_examples, densify, example_files, requests
from tests.amen_tf import batches

T, D = 3, 8
# Two files, 13 and 7 requests; `user_key` numbers them in the order in which they lie there.
SIZES = (13, 7)
TOTAL = sum(SIZES)


@pytest.fixture(scope="module")
def written(tmp_path_factory, spec):
    """The folder of the files and, by number, the requests in them."""
    folder = tmp_path_factory.mktemp("examples")
    features = batches.batch(spec, rows=TOTAL, candidates=5, seed=3) | {USER_KEY: tf.range(TOTAL, dtype=tf.int64)}
    first = list(range(SIZES[0]))
    batches.write_examples(folder / "part-00000.gz", batches.rows(features, first))
    batches.write_examples(folder / "part-00001.gz", batches.rows(features, list(range(SIZES[0], TOTAL))))
    return folder, features


@pytest.fixture
def read(written, spec):
    """Returns a function that reads the files."""

    def read(batch_size=8, **options):
        return requests([f"{written[0]}/part-*"], batches.feature_spec(spec), batch_size, **options)

    return read


def keys(data):
    """`user_key` of every request of one pass."""
    return [key for batch in data for key in batch[USER_KEY].numpy().tolist()]


def sparse(dense_shape, *entries):
    places, values = zip(*entries, strict=True)
    return tf.SparseTensor(places, tf.constant(values, tf.int64), dense_shape)


def test_densify_pads_on_the_right_and_says_what_is_real():
    features = {
        "candidate_item_id": sparse((3, 2), ((0, 0), 5), ((0, 1), 6), ((2, 0), 7)),
        "candidate_brand": sparse((3, 2), ((0, 0), 1), ((0, 1), 0), ((2, 0), 2)),
        "label": sparse((3, 2), ((0, 0), 1), ((0, 1), 0), ((2, 0), 1)),
        "scene": tf.constant([1, 2, 3], tf.int64),
    }
    dense = densify(features)
    assert dense["candidate_item_id"].numpy().tolist() == [[5, 6], [0, 0], [7, 0]]
    assert dense["candidate_brand"].numpy().tolist() == [[1, 0], [0, 0], [2, 0]]
    assert dense[LABEL].numpy().tolist() == [[1, 0], [0, 0], [1, 0]] and dense[LABEL].dtype == tf.float32
    assert dense[CANDIDATE_MASK].numpy().tolist() == [[True, True], [False, False], [True, False]]
    assert dense["scene"] is features["scene"]


@pytest.mark.parametrize(("width", "columns"), [(None, 2), (1, 2), (2, 2), (5, 5)])
def test_densify_to_at_least_a_width(width, columns):
    dense = densify({"candidate_item_id": sparse((1, 2), ((0, 0), 5), ((0, 1), 6))}, width)
    assert dense["candidate_item_id"].shape == (1, columns)
    assert dense["candidate_item_id"].numpy()[0].tolist() == [5, 6, 0, 0, 0][:columns]


def test_densify_gives_label_the_width_of_the_candidates():
    # A request that is asked at serving time has candidates and no label at all.
    none = tf.SparseTensor(tf.zeros((0, 2), tf.int64), tf.zeros((0,), tf.int64), (2, 0))
    dense = densify({"candidate_item_id": sparse((2, 3), ((0, 0), 5), ((1, 2), 6)), "label": none})
    assert dense[LABEL].shape == (2, 3) and (dense[LABEL].numpy() == 0).all()


def test_requests_come_in_the_order_of_the_files_and_as_written(read, written):
    data, features = read(), written[1]
    assert keys(data) == list(range(TOTAL))
    assert [len(batch[USER_KEY]) for batch in data] == [8, 8, 4]
    for start, batch in zip((0, 8, 16), data, strict=True):
        assert set(batch) == set(features)
        width = batch[CANDIDATE_MASK].shape[1]
        for name, column in batch.items():
            expected = features[name].numpy()[start : start + 8]
            if is_of_candidates(name) or name == CANDIDATE_MASK:
                assert not expected[:, width:].any()
                expected = expected[:, :width]
            np.testing.assert_array_equal(column, expected, name)
        # N is the most candidates of the batch.
        assert batch[CANDIDATE_MASK].numpy().any(0).all()


def test_shuffle_is_the_same_for_a_seed_and_new_each_epoch(read):
    one, same, other = read(shuffle_seed=1), read(shuffle_seed=1), read(shuffle_seed=2)
    epochs = [keys(one), keys(one)]
    assert [keys(same), keys(same)] == epochs
    assert keys(other) != epochs[0] != epochs[1]
    for epoch in epochs:
        assert sorted(epoch) == list(range(TOTAL)) and epoch != sorted(epoch)


def test_count_examples(written):
    assert count_examples([f"{written[0]}/part-*"]) == TOTAL
    assert count_examples([f"{written[0]}/part-00001.gz"]) == SIZES[1]


def test_example_files_are_sorted_and_each_is_read_once(written):
    folder = written[0]
    paths = [f"{folder}/part-00000.gz", f"{folder}/part-00001.gz"]
    assert example_files([f"{folder}/part-00001*", f"{folder}/part-*"]) == paths


def test_missing_files_are_an_error_that_names_the_patterns(tmp_path, spec):
    patterns = [f"{tmp_path}/none-*", f"{tmp_path}/nothing"]
    for use in (example_files, count_examples, lambda p: requests(p, batches.feature_spec(spec), 8)):
        with pytest.raises(ValueError, match="No example files match .*none-.*, .*nothing: expected the output of"):
            use(patterns)


def numbered(features):
    """A generator whose outputs tell which request they were made for."""
    key = tf.cast(features[USER_KEY], tf.float32)
    flow = key[:, None, None] + tf.reshape(tf.range(T * D, dtype=tf.float32) / 100, (1, T, D))
    return {FLOW: flow, DIVERSITY: -flow[:, :, 0], VELOCITY: 1000 + flow}


@pytest.fixture
def flows(tmp_path, read):
    flows = FlowFile(tmp_path / "flows", T, D)
    flows.write(numbered, read(batch_size=6))
    return flows


def test_flow_file_holds_one_row_for_each_request(flows, tmp_path):
    assert (tmp_path / "flows").stat().st_size == TOTAL * 4 * (2 * T * D + T)
    rows = next(iter(flows.rows().batch(TOTAL)))
    decoded = flows.decode(rows)
    expected = numbered({USER_KEY: tf.range(TOTAL, dtype=tf.int64)})
    assert list(decoded) == [FLOW, DIVERSITY, VELOCITY]
    for name, value in expected.items():
        np.testing.assert_array_equal(decoded[name], value)


@pytest.mark.parametrize("seed", [None, 4])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_every_request_keeps_its_own_flow(read, flows, seed, batch_size):
    data = read(batch_size=batch_size, shuffle_seed=seed, flows=flows)
    for _ in range(2):
        seen = []
        for batch in data:
            for name, value in numbered(batch).items():
                np.testing.assert_array_equal(batch[name], value)
            seen += batch[USER_KEY].numpy().tolist()
        assert sorted(seen) == list(range(TOTAL)) and (seed is None) == (seen == sorted(seen))


def test_flows_do_not_change_the_order_of_the_shuffle(read, flows):
    # So that the ablation without flow trains on the same batches.
    assert keys(read(shuffle_seed=4, flows=flows)) == keys(read(shuffle_seed=4))
