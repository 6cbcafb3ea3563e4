"""Windows of requests: files and memory give the same batches, and keys tell windows apart."""

import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.config import CtrSettings
from amen_tf.features import CANDIDATE_MASK, DIVERSITY, FLOW, USER_KEY, VELOCITY, is_of_candidates
from amen_tf.flows import FlowStore, fingerprint
from amen_tf.models.ctr import CtrModel
from amen_tf.windows import ExampleFiles, JoinedWindow, RequestTable
from tests.amen_tf import batches

ROWS, T, D = 20, 3, 8


@pytest.fixture(scope="module")
def written(spec):
    return batches.batch(spec, rows=ROWS, candidates=5, seed=3) | {USER_KEY: tf.range(ROWS, dtype=tf.int64) + 2**40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, spec, written):
    folder = tmp_path_factory.mktemp("examples")
    batches.write_examples(folder / "part-0.gz", batches.rows(written, list(range(12))))
    batches.write_examples(folder / "part-1.gz", batches.rows(written, list(range(12, ROWS))))
    return folder


@pytest.fixture
def files(folder, spec):
    return ExampleFiles([f"{folder}/part-*"], batches.feature_spec(spec))


@pytest.fixture
def table(files):
    return RequestTable.read(files.batches(7))


def joined(data):
    parts = [{name: column.numpy() for name, column in batch.items()} for batch in data]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_memory_holds_what_the_files_hold(files, table, written):
    assert files.size == table.size == ROWS
    assert table.impressions == int(written[CANDIDATE_MASK].numpy().sum())
    found = joined(table.batches(6))
    assert set(found) == set(written)
    for name, column in written.items():
        assert found[name].dtype == column.numpy().dtype, name
        np.testing.assert_array_equal(found[name], column, err_msg=name)
    assert [len(batch[USER_KEY]) for batch in table.batches(6)] == [6, 6, 6, 2]


def test_every_pass_is_mixed_anew_and_repeats_with_its_seed(table):
    def keys(seed, passes):
        data = table.batches(6, seed)
        return [joined(data)[USER_KEY].tolist() for _ in range(passes)]

    first, second = keys(3, 2)
    assert sorted(first) == sorted(second) and first != second and first != sorted(first)
    assert keys(3, 2) == [first, second] and keys(4, 1)[0] != first


def test_saving_loading_and_joining(table, tmp_path):
    table.save(tmp_path / "table.npz")
    again = RequestTable.load(tmp_path / "table.npz")
    assert again.key == table.key
    narrow = RequestTable({n: c[:4, :2] if is_of_candidates(n) else c[:4] for n, c in table.columns.items()})
    both = RequestTable.concatenated([narrow, table])
    assert both.size == 4 + ROWS and both.columns[CANDIDATE_MASK].shape == (4 + ROWS, 5)
    assert not both.columns[CANDIDATE_MASK][:4, 2:].any()
    np.testing.assert_array_equal(both.columns[USER_KEY][4:], table.columns[USER_KEY])


def test_a_table_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one batch"):
        RequestTable.read([])


def test_keys_change_with_the_contents(files, table, folder, spec, tmp_path):
    changed = RequestTable({**table.columns, USER_KEY: table.columns[USER_KEY] + 1})
    assert len({table.key, changed.key}) == 2
    part = ExampleFiles([f"{folder}/part-0*"], batches.feature_spec(spec))
    shutil.copytree(folder, tmp_path / "copy")
    copied = ExampleFiles([f"{tmp_path}/copy/part-*"], batches.feature_spec(spec))
    assert len({files.key, part.key, copied.key}) == 3
    assert ExampleFiles(files.patterns, files.feature_spec).key == files.key


def test_joined_windows_are_read_one_after_the_other_or_mixed(table, spec):
    other = RequestTable.read([batches.batch(spec, rows=10, candidates=3, seed=8)])
    both = JoinedWindow([table, other])
    assert both.size == ROWS + 10 and both.key not in (table.key, other.key)
    plain = [key for batch in both.batches(6) for key in batch[USER_KEY].numpy()]
    assert plain == [*table.columns[USER_KEY], *other.columns[USER_KEY]]
    one, again = ([b[USER_KEY].numpy().tolist() for b in both.batches(6, seed)] for seed in (3, 3))
    assert one == again and one != [b[USER_KEY].numpy().tolist() for b in both.batches(6, 4)]
    # Two of three requests are of the first window, and so are two of three in every batch; N is the wider one's.
    for batch in both.batches(6, 3):
        assert (batch[USER_KEY].numpy() >= 2**40).sum() == 4 and batch["candidate_item_id"].shape[1] == 5
    assert sorted(key for batch in one for key in batch) == sorted(plain)


def test_a_small_window_beside_a_large_one_does_not_end_the_pass(table, spec):
    # 20 requests and 1, in batches of 4 or so: each of the six has the one, and the 20, four to a batch, end with the
    # fifth and begin again.
    one = RequestTable.read([batches.rows(batches.batch(spec, rows=3, seed=8), [1])])
    read = [batch[USER_KEY].numpy() for batch in JoinedWindow([table, one]).batches(4, 3)]
    assert len(read) == 6
    late = np.concatenate(read)[np.concatenate(read) >= 2**40]
    assert set(late) == set(table.columns[USER_KEY])


def test_requests_without_a_flow_have_zeros(table, spec, features, generator_folder, tmp_path):
    model, store = CtrModel(spec, CtrSettings(), generator_folder), FlowStore(tmp_path)
    model(features)
    other = RequestTable.read([batches.batch(spec, rows=10, seed=8)])
    flows = [store.absent(other, T, D), store.of(generator_folder, model.generator, table, T, D)]
    seen = set()
    for batch in JoinedWindow([other, table]).batches(6, 3, flows):
        late = batch[USER_KEY].numpy() >= 2**40
        seen |= set(late)
        assert not batch[FLOW].numpy()[~late].any() and not batch[VELOCITY].numpy()[~late].any()
        np.testing.assert_allclose(np.linalg.norm(batch[FLOW].numpy()[late], axis=-1), 1, rtol=1e-5)
    assert seen == {True, False}
    # Such a request gets a logit, and no more of the flow than that there is none.
    blind = {**features, FLOW: tf.zeros((6, T, D)), DIVERSITY: tf.zeros((6, T)), VELOCITY: tf.zeros((6, T, D))}
    assert np.isfinite(model(blind)).all()


class Counting:
    """A generator that counts how often it is traced or called."""

    def __init__(self, generator):
        self.generator, self.calls = generator, 0

    def __call__(self, features):
        self.calls += 1
        return self.generator(features)


@pytest.mark.parametrize("kind", ["files", "table"])
def test_kept_flows_are_those_of_the_model_and_are_computed_once(
    request, kind, spec, features, generator_folder, tmp_path
):
    window = request.getfixturevalue(kind)
    model = CtrModel(spec, CtrSettings(), generator_folder)
    model(features)
    counting, store = Counting(model.generator), FlowStore(tmp_path / "flows")
    file = store.of(generator_folder, counting, window, T, D)
    assert counting.calls >= 1
    calls = counting.calls
    store.of(generator_folder, counting, window, T, D)
    assert counting.calls == calls
    assert [p.suffix for p in (tmp_path / "flows").iterdir()] == [".f4"]
    # Mixed, and still every request has its own flow.
    for batch in window.batches(6, 5, file):
        own = model.generator(batch)
        for name in (FLOW, DIVERSITY, VELOCITY):
            np.testing.assert_allclose(batch[name], own[name], atol=1e-6)
        np.testing.assert_allclose(model(batch), model({n: c for n, c in batch.items() if n != FLOW}), atol=1e-5)


def test_a_torn_file_is_computed_again(table, generator_folder, spec, features, tmp_path):
    model = CtrModel(spec, CtrSettings(), generator_folder)
    model(features)
    store = FlowStore(tmp_path)
    path = pathlib.Path(store.of(generator_folder, model.generator, table, T, D).path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    store.of(generator_folder, model.generator, table, T, D)
    assert path.read_bytes() == whole


def test_what_is_broken_off_leaves_no_file(table, generator_folder, tmp_path):
    def stopped(features):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FlowStore(tmp_path).of(generator_folder, stopped, table, T, D)
    assert not list(tmp_path.iterdir())


def test_another_generator_has_another_fingerprint(generator_folder, tmp_path):
    shutil.copytree(generator_folder, tmp_path / "same")
    assert fingerprint(tmp_path / "same") == fingerprint(generator_folder)
    data = next((tmp_path / "same" / "variables").glob("*.data*"))
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(bytes(content))
    assert fingerprint(tmp_path / "same") != fingerprint(generator_folder)
