"""Negatives of Eq. (1): other users' items of the same step, and items drawn uniformly from the catalogue."""

import dataclasses

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from amen_tf.features import ITEM_ID, PAD_ID


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The distinct items of the training window.

    Attributes:
      fields: item field -> ids `[V]` int64; row i of every field belongs to the same item.
      frequency: `[ids]` float32, how often each item id is a future item, as a share of all; sums to 1.
    """

    fields: dict[str, np.ndarray]
    frequency: np.ndarray

    @property
    def size(self) -> int:
        """V, the number of distinct items."""
        return len(self.fields[ITEM_ID])

    def sample(self, count: int, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """`count` items uniformly with replacement: field -> ids `[count]`; the same `seed` `[2]` draws the same."""
        rows = tf.random.stateless_uniform((count,), seed, maxval=self.size, dtype=tf.int32, alg="philox")
        return {field: tf.gather(tf.constant(ids, tf.int64), rows) for field, ids in self.fields.items()}

    def sampling_probability(self, ids: tf.Tensor, in_batch: tf.Tensor, uniform: int) -> tf.Tensor:
        """Chance that a place of the pool (`in_batch` + `uniform` places) holds each of `ids`; of their shape."""
        frequency = tf.gather(tf.constant(self.frequency, tf.float32), ids)
        in_batch = tf.cast(in_batch, tf.float32)
        return (in_batch * frequency + uniform / self.size) / (in_batch + uniform)


def corrected_scores(scores: tf.Tensor, probability: tf.Tensor) -> tf.Tensor:
    """log-Q correction: a popular item is drawn as a negative more often, which would push it down; this undoes it.

    `tensorflow-recommenders` takes probabilities below 1e-6 for 1e-6: in catalogues of some million items the rarest
    are corrected by a constant.

    Args:
      scores: `[..., C]` float32, similarities over τ.
      probability: chance of each candidate to be drawn, broadcastable to `scores`.
    """
    return tfrs.layers.loss.SamplingProbablityCorrection()(scores, probability)


def is_negative(candidates: tf.Tensor, own_future: tf.Tensor) -> tf.Tensor:
    """Whether each candidate may serve as a negative of each row: a real item that is not in the row's own future.

    Args:
      candidates: `[T, C]` or `[1, C]` int64 item ids, the pool of each step.
      own_future: `[B, T]` int64 item ids.

    Returns:
      `[B, T or 1, C]` bool.
    """
    own = tf.reduce_any(candidates[tf.newaxis, :, :, tf.newaxis] == own_future[:, tf.newaxis, tf.newaxis, :], -1)
    return ~own & (candidates != PAD_ID)[tf.newaxis]
