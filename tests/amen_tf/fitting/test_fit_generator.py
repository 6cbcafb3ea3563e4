"""fit_generator: what it reads, what it reports, and that a collapse fails the run."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.config import GeneratorSettings
from amen_tf.diagnostics import CollapseError, Diagnosis
from amen_tf.features import CANDIDATE_MASK, FUTURE, ITEM_ID, MOVELINE, USER_KEY, is_of_candidates
from amen_tf.fitting.generator import fit_generator, read_catalogue, with_future
from amen_tf.initialization import named_weights
from amen_tf.training import Session, make_deterministic
from amen_tf.warm_start import Ids, WarmStart
from amen_tf.windows import RequestTable, Windows
from tests.amen_tf import batches

OPTIONS = {
    "weight_init": False,
    "batch_size": 8,
    "learning_rate": 0.01,
    "patience": 9,
    "sampled_negatives": 5,
    "collapse_limit": 1.0,
}


def windows(spec):
    return Windows(*(RequestTable.read([batches.batch(spec, rows=rows, seed=rows)]) for rows in (26, 12)))


def fit(spec, folder, warm=None, **settings):
    make_deterministic(5)
    session = Session(folder, lambda progress: None)
    read = windows(spec)
    counts = batches.item_counts(spec, read.train)
    return fit_generator(spec, GeneratorSettings(**{**OPTIONS, **settings}), read, session, {}, counts, warm)


def test_requests_with_a_future_are_kept_whatever_the_number_of_candidates(spec):
    # Batches from files are as wide as their widest request.
    wide = batches.batch(spec, rows=5, seed=1)
    narrow = {n: column[:, :1] if is_of_candidates(n) else column for n, column in batches.batch(spec, rows=5).items()}
    assert wide[CANDIDATE_MASK].shape[1] > 1
    parts = [wide, narrow]
    signature = {
        n: tf.TensorSpec((None,) * c.shape.rank if is_of_candidates(n) else (None, *c.shape[1:]), c.dtype)
        for n, c in wide.items()
    }
    mixed = tf.data.Dataset.from_generator(lambda: iter(parts), output_signature=signature)
    read = list(with_future(mixed, 4))
    future = np.concatenate([part[FUTURE + ITEM_ID] for part in parts])
    users = np.concatenate([part[USER_KEY] for part in parts])
    assert 0 < (future[:, 0] != 0).sum() < len(future)
    np.testing.assert_array_equal(np.concatenate([b[USER_KEY] for b in read]), users[future[:, 0] != 0])
    assert [len(b[USER_KEY]) for b in read[:-1]] == [4] * (len(read) - 1)
    assert not any(is_of_candidates(name) for name in read[0])


def test_catalogue_has_every_item_of_the_window(spec):
    window = windows(spec).train
    counts = batches.item_counts(spec, window)
    catalogue, _, followed = read_catalogue(spec, window, counts)
    columns = window.columns
    everything = [columns[n] for n in (FUTURE + ITEM_ID, "candidate_" + ITEM_ID, MOVELINE + ITEM_ID)]
    assert set(catalogue.fields[ITEM_ID]) == set(np.concatenate([c.ravel() for c in everything])) - {0}
    assert followed == (columns[FUTURE + ITEM_ID][:, 0] != 0).sum()
    np.testing.assert_allclose(catalogue.frequency, counts / counts.sum(), rtol=1e-6)


def test_figures_are_those_of_the_epoch_that_is_kept(spec, tmp_path):
    fitted = fit(spec, tmp_path, epochs=3, rank_requests=7)
    losses = fitted.history["val_info_nce"]
    assert len(losses) == 3
    kept = losses.index(min(losses))
    by_rank = {name: value for name, value in fitted.figures.items() if "@10" in name}
    for name, value in fitted.figures.items():
        if name not in by_rank:
            assert fitted.history[f"val_{name}"][kept] == pytest.approx(value, nan_ok=True)
    train, unseen = (window.batches(256) for window in windows(spec))
    diagnosis = Diagnosis(fitted.model, fitted.model.catalogue)
    # Seven requests after every epoch; in the end all twelve are ranked.
    again = diagnosis.figures(train, unseen, 7)
    for name, value in again.items():
        assert fitted.history[f"val_{name}"][kept] == pytest.approx(value, abs=1e-5, nan_ok=True)
    everything = diagnosis.figures(train, unseen, 12)
    assert by_rank == pytest.approx({name: everything[name] for name in by_rank}, abs=1e-5, nan_ok=True)
    assert any(by_rank[name] != again[name] for name in by_rank if not np.isnan(again[name]))


def test_a_collapsed_generator_fails_the_run(spec, tmp_path):
    with pytest.raises(CollapseError, match=r"expected below 0\.0001"):
        fit(spec, tmp_path, epochs=1, collapse_limit=0.0001)


def test_what_the_window_does_not_have_says_nothing(spec, tmp_path):
    # More items than a small window has.
    spec = dataclasses.replace(spec, sizes={**spec.sizes, ITEM_ID: 500})
    fitted = fit(spec, tmp_path, epochs=1, weight_decay=0.1)
    train = windows(spec).train
    _, ids, _ = read_catalogue(spec, train, batches.item_counts(spec, train))
    for field, table in fitted.model.encoder.items.tables.items():
        norms = np.linalg.norm(table.table.numpy(), axis=1)
        known = np.isin(np.arange(len(norms)), ids[field]) & (np.arange(len(norms)) > 0)
        np.testing.assert_array_equal(norms[~known], 0.0)
        assert (norms[known] > 0).all(), field
    # An item that is new in stage 2 is its category and features.
    unknown = np.setdiff1d(np.arange(1, spec.sizes[ITEM_ID]), ids[ITEM_ID])
    assert len(unknown) > 50
    item = {
        field: tf.constant([[unknown[0], 0]]) if field == ITEM_ID else tf.constant([[3, 3]])
        for field in spec.item_sizes
    }
    vectors = fitted.model.item_vectors(item)[0]
    np.testing.assert_array_equal(vectors[0], vectors[1])


@pytest.mark.parametrize("learning_rate", [1e-30, 100.0])
def test_a_warm_start_that_no_epoch_improves_is_kept_with_its_own_figures(spec, tmp_path, learning_rate):
    first = fit(spec, tmp_path / "first", epochs=2)
    words = {meaning: [b"%d" % i for i in range(spec.sizes[meaning] - 1)] for meaning in spec.in_vocabularies}
    weights = {name: weight.numpy() for name, weight in named_weights(first.model).items()}
    warm = WarmStart(weights, *[Ids(spec, words)] * 2)
    options = {"epochs": 2, "weight_decay": 0.0, "learning_rate": learning_rate, "rank_requests": 7}
    fitted = fit(spec, tmp_path / "second", warm, **options)
    [start], epochs = fitted.history["start_info_nce"], fitted.history["val_info_nce"]
    assert len(epochs) == 2 and start <= min(epochs)
    for name, weight in named_weights(fitted.model).items():
        np.testing.assert_allclose(weight, weights[name], rtol=0, atol=1e-12)
    for name, value in fitted.figures.items():
        if "@10" not in name:
            assert fitted.history[f"start_{name}"] == [pytest.approx(value, nan_ok=True)]
            assert len(fitted.history[f"val_{name}"]) == 2
