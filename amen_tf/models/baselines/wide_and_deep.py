"""Wide & Deep (Cheng et al. 2016): a linear model and an MLP, trained together."""

import tensorflow as tf
import tf_keras as keras

from amen_tf.features import CANDIDATE
from amen_tf.layers.embedding import IdEmbedding
from amen_tf.models.candidate_ranker import CandidateRanker, Encoded
from amen_tf.spec import ModelSpec


class WideAndDeep(CandidateRanker):
    """logit = wide + deep; the moveline is averaged, whatever the candidate.

    Wide: one weight per id of the candidate's columns, and the crossed features, which are the match features here
    ("this user has touched this item": AND(installed app, impressed app) in the paper). Deep: the merge MLP.

    Args:
      spec: features, sizes and shapes.
    """

    title = "Wide&Deep"

    def __init__(self, spec: ModelSpec, **kwargs):
        super().__init__(spec, **kwargs)
        meanings = dict.fromkeys(map(spec.contract.meaning_of, spec.contract.candidate_fields))
        self.wide = {
            meaning: IdEmbedding(
                spec.sizes[meaning], 1, 0.01, spec.seed + 2200 + i, spec.unseen_ids(meaning), name=f"wide_{meaning}"
            )
            for i, meaning in enumerate(meanings)
        }
        self.crossed = keras.layers.Dense(1, kernel_initializer="zeros", name="crossed", dtype=tf.float32)

    def interest(self, encoded: Encoded):
        real = tf.cast(encoded.mask, encoded.events.dtype)[..., tf.newaxis]
        mean = tf.math.divide_no_nan(tf.reduce_sum(encoded.events * real, 1), tf.reduce_sum(real, 1))
        return [], [mean]

    def call(self, features, training=None):
        """features (see `amen_tf.features`) -> logits `[B, N]` float32."""
        encoded = self.encode(features, training)
        deep = self.merged(*self.merge_inputs(features, encoded), training)
        contract = self.spec.contract
        linear = [
            tf.cast(self.wide[contract.meaning_of(field)](features[CANDIDATE + field])[..., 0], tf.float32)
            for field in contract.candidate_fields
        ]
        crossed = self.crossed(self.match(encoded.candidates, encoded.moveline))[..., 0]
        return deep + tf.add_n(linear) + crossed
