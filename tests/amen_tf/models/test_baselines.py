"""DIN and Wide & Deep: what each makes of the moveline, and nothing else that differs from the base."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.initialization import named_weights
from amen_tf.models.registry import RANKERS, make_ranker
from tests.amen_tf import batches
from tests.amen_tf.conftest import built

D = 8


def close(left, right):
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", RANKERS)
def test_models_share_features_and_first_weights(name, spec, features):
    # One seed gives every model the same tables, so that models differ in what they are and not in their luck.
    model, base = make_ranker(name, spec), make_ranker("base", spec)
    model(features), base(features)
    theirs, ours = named_weights(base), named_weights(model)
    shared = [weight for weight in theirs if weight.startswith(("encoder/", "request_side/", "candidate_side/"))]
    assert len(shared) >= 8
    for weight in shared:
        np.testing.assert_array_equal(ours[weight], theirs[weight])


def test_din_reads_the_events_by_its_activation_unit(din, features):
    encoded = din.encode(features)
    (h_user, product), per_request = din.interest(encoded)
    close(h_user, din.attention(encoded.targets, encoded.events, encoded.mask))
    close(product, h_user * encoded.targets)
    assert per_request == []


def test_wide_and_deep_averages_the_moveline(wide_and_deep, features):
    encoded = wide_and_deep.encode(features)
    per_candidate, (mean,) = wide_and_deep.interest(encoded)
    assert per_candidate == []
    events, mask = encoded.events.numpy(), encoded.mask.numpy()
    for row in range(len(mask)):
        expected = events[row][mask[row]].mean(0) if mask[row].any() else np.zeros(D)
        close(mean[row], expected)


def test_wide_part_adds_a_weight_per_id_and_the_crossed_features(wide_and_deep, features):
    logits = wide_and_deep(features).numpy()
    before = {name: weight.numpy() for name, weight in named_weights(wide_and_deep).items()}
    wide = np.zeros_like(logits)
    for field in wide_and_deep.spec.contract.candidate_fields:
        ids = features[f"candidate_{field}"].numpy()
        wide += before[f"wide/{field.rstrip('_12')}/table"][ids, 0] * (ids != 0)
    encoded = wide_and_deep.encode(features)
    match = wide_and_deep.match(encoded.candidates, encoded.moveline).numpy()
    wide += (match @ before["crossed/kernel"])[..., 0] + before["crossed/bias"]
    per_candidate, per_request = wide_and_deep.merge_inputs(features, encoded)
    deep = wide_and_deep.merge(tf.concat(per_candidate, -1), tf.concat(per_request, -1))
    close(logits, deep + wide)


@pytest.mark.parametrize("name", RANKERS)
def test_match_features_can_be_left_out(name, features):
    with_match = batches.spec()
    without = batches.spec(match_features=False)
    model, full = make_ranker(name, without), make_ranker(name, with_match)
    built(model, features), built(full, features)
    assert np.isfinite(model(features)).all()
    # Four numbers and a vector of 8 for each of item and category.
    difference = full.merge.candidate_input.kernel.shape[0] - model.merge.candidate_input.kernel.shape[0]
    assert difference == 2 * (4 + 8)


@pytest.mark.parametrize("name", RANKERS)
def test_item_dropout_hides_ids_in_training_alone(name, spec, features):
    hiding = make_ranker(name, batches.spec(item_dropout=0.9, dropout=0.0, embedding_std=0.5, item_std=0.5))
    plain = make_ranker(name, batches.spec(dropout=0.0, embedding_std=0.5, item_std=0.5))
    plain(features), hiding(features)
    close(hiding(features), plain(features))
    difference = np.abs(hiding(features, training=True) - plain(features, training=True))
    assert difference.max() > 1e-3
