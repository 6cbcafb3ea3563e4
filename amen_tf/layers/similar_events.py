"""Similar events: how near to the target are the things of its category that the user has touched."""

import tensorflow as tf
import tf_keras as keras


class SimilarEvents(keras.layers.Layer):
    """The largest and the mean cosine of target and event over the newest events, among those of the same category.

    The soft search of SIM (Qi et al. 2020) inside its hard search by category. Equal ids are what `MatchFeatures` is
    for; here two items may be alike. Two readings of "alike" are kept apart by what is handed in: vectors in which the
    category has a part would say of everything in it that it is alike.

    Args:
      windows: how many of the newest events are looked at; all of them, in addition, for the mean.
    """

    def __init__(self, windows: tuple[int, ...] = (3, 10, 30), **kwargs):
        super().__init__(**kwargs)
        self.windows = tuple(windows)

    def call(self, targets, events, same):
        """Compares every target with every event.

        Args:
          targets: `[B, N, d]` float32, unit vectors.
          events: `[B, L, d]` float32, unit vectors, oldest first.
          same: `[B, N, L]` bool, which events are real and have an item of the target's category.

        Returns:
          `[B, N, 2 * windows + 1]` float32 in [-1, 1]: the largest cosine in each window, the mean over each, the mean
          over all. Events that are not of the category count as 0 in all of them.
        """
        cosine = tf.matmul(targets, events, transpose_b=True) * tf.cast(same, targets.dtype)
        newest = [cosine[:, :, -window:] for window in self.windows]
        features = [tf.reduce_max(part, -1) for part in newest]
        features += [tf.reduce_mean(part, -1) for part in (*newest, cosine)]
        return tf.stack(features, -1)

    def get_config(self):
        return {**super().get_config(), "windows": self.windows}
