"""Negatives of Eq. 1: what may count as one, how likely each is, and draws that repeat."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.models.negatives import Catalogue, corrected_scores, is_negative

# Items 1 to 4; item 4 is never a future item.
CATALOGUE = Catalogue(
    {"item_id": np.array([1, 2, 3, 4]), "category_id": np.array([10, 20, 30, 40])},
    np.array([0, 0.5, 0.25, 0.25, 0], np.float32),
)


def ids(*rows):
    return tf.constant(rows, tf.int64)


def test_sampling_probability_by_hand():
    # A pool of 2 places in the batch and 6 drawn from 4 items. Item 1: (2 * 0.5 + 6 / 4) / 8 = 2.5 / 8;
    # items 2 and 3: (2 * 0.25 + 1.5) / 8 = 2 / 8; item 4 comes from the uniform draw alone: 1.5 / 8.
    probability = CATALOGUE.sampling_probability(ids([1, 2], [3, 4]), 2, 6)
    np.testing.assert_allclose(probability, [[2.5 / 8, 2 / 8], [2 / 8, 1.5 / 8]], rtol=1e-6)


@pytest.mark.parametrize(("in_batch", "uniform"), [(2, 6), (128, 256), (1, 0), (1, 1000)])
def test_sampling_probabilities_of_all_items_sum_to_one(in_batch, uniform):
    probability = CATALOGUE.sampling_probability(tf.constant(CATALOGUE.fields["item_id"]), in_batch, uniform)
    np.testing.assert_allclose(tf.reduce_sum(probability), 1.0, rtol=1e-6)


def test_sampling_probability_is_how_often_a_place_of_the_pool_holds_the_item():
    rng = np.random.default_rng(0)
    in_batch, uniform, pools = 3, 5, 20_000
    places = np.concatenate(
        [
            rng.choice(5, (pools, in_batch), p=CATALOGUE.frequency.astype(float)),
            rng.choice(CATALOGUE.fields["item_id"], (pools, uniform)),
        ],
        1,
    )
    share = np.bincount(places.ravel(), minlength=5)[1:] / places.size
    probability = CATALOGUE.sampling_probability(ids([1, 2, 3, 4])[0], in_batch, uniform)
    np.testing.assert_allclose(share, probability, atol=0.005)


def test_sample_repeats_by_seed_and_keeps_the_fields_of_an_item_together():
    draws = [CATALOGUE.sample(400, ids([seed, step])[0]) for seed, step in ((1, 2), (1, 2), (1, 3), (2, 2))]
    first, same, other_step, other_seed = (draw["item_id"].numpy() for draw in draws)
    np.testing.assert_array_equal(first, same)
    assert (first != other_step).any() and (first != other_seed).any()
    np.testing.assert_array_equal(draws[0]["category_id"], 10 * first)
    # Uniform: 100 of 400 each, give or take four standard deviations of about 9.
    assert np.abs(np.bincount(first)[1:] - 100).max() < 36


def test_no_samples_are_an_empty_draw():
    assert CATALOGUE.sample(0, ids([1, 2])[0])["item_id"].shape == (0,)
    assert CATALOGUE.size == 4


def test_correction_takes_off_the_log_of_the_probability():
    # log(1/4) = -1.386 comes off: rarer items gain more.
    corrected = corrected_scores(tf.constant([[1.0, 1.0]]), tf.constant([[0.25, 1.0]]))
    np.testing.assert_allclose(corrected, [[1 + np.log(4), 1.0]], rtol=1e-6)


def test_own_future_and_padding_are_no_negatives_by_hand():
    # Two steps, three users; the pool of step t holds what each user takes at t. User 2 stops after one step.
    own_future = ids([1, 2], [3, 1], [4, 0])
    negative = is_negative(tf.transpose(own_future), own_future).numpy()
    assert negative.shape == (3, 2, 3)
    # User 0 takes 1 and 2: at step 0 the pool is 1, 3, 4; at step 1 it is 2, 1, padding.
    assert negative[0].tolist() == [[False, True, True], [False, False, False]]
    # User 1 takes 3 and 1: item 1 is out at step 0 too, although she takes it only at step 1.
    assert negative[1].tolist() == [[False, False, True], [True, False, False]]
    assert negative[2].tolist() == [[True, True, False], [True, True, False]]


def test_sampled_negatives_are_one_pool_for_all_steps():
    negative = is_negative(ids([1, 2, 3, 0]), ids([1, 2], [3, 0])).numpy()
    assert negative.shape == (2, 1, 4)
    assert negative[:, 0].tolist() == [[False, False, True, False], [True, True, False, False]]
