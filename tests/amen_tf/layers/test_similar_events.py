"""Similar events: by hand, against NumPy, and what must not matter."""

import numpy as np
import tensorflow as tf

from amen_tf.layers.similar_events import SimilarEvents

B, N, L, D = 5, 4, 8, 6


def unit(rng, *shape):
    vectors = rng.normal(size=(*shape, D)).astype("f4")
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_by_hand():
    targets = tf.constant([[[1.0, 0.0]]])
    # Cosines with the target, oldest first: 0.6, 1, -1, 0; the second is of another category.
    events = tf.constant([[[0.6, 0.8], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]])
    same = tf.constant([[[True, False, True, True]]])
    # The newest two: -1 and 0; the newest four: 0.6, 0 (another category), -1, 0.
    expected = [0.0, 0.6, -0.5, -0.1, -0.1]
    np.testing.assert_allclose(SimilarEvents((2, 4))(targets, events, same)[0, 0], expected, rtol=1e-6)


def test_equals_numpy():
    rng = np.random.default_rng(0)
    targets, events, same = unit(rng, B, N), unit(rng, B, L), rng.random((B, N, L)) < 0.5
    features = SimilarEvents((3, 30))(tf.constant(targets), tf.constant(events), tf.constant(same)).numpy()
    assert features.shape == (B, N, 5)
    for b in range(B):
        for n in range(N):
            cosine = [float(targets[b, n] @ events[b, i]) if same[b, n, i] else 0.0 for i in range(L)]
            expected = [max(cosine[-3:]), max(cosine), np.mean(cosine[-3:]), np.mean(cosine), np.mean(cosine)]
            np.testing.assert_allclose(features[b, n], expected, rtol=1e-5, atol=1e-6)


def test_candidates_and_events_of_other_categories_do_not_matter():
    rng = np.random.default_rng(1)
    targets, events, same = unit(rng, B, N), unit(rng, B, L), rng.random((B, 1, L)) < 0.5
    layer, every = SimilarEvents(), np.repeat(same, N, 1)
    plain = layer(targets, events, tf.constant(every)).numpy()
    for n in range(N):
        np.testing.assert_allclose(
            layer(targets[:, n : n + 1], events, tf.constant(same))[:, 0], plain[:, n], rtol=1e-5
        )
    garbled = np.where(same[:, 0, :, None], events, 9.0).astype("f4")
    np.testing.assert_allclose(layer(targets, garbled, tf.constant(every)), plain, rtol=1e-5)
    np.testing.assert_array_equal(layer(targets, events, tf.zeros((B, N, L), tf.bool)), 0.0)
