"""G_φ: the generator of the Next Interest Flow (stage 1, Eq. 1-6 and Algorithm 1)."""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf
import tf_keras as keras

from amen_tf import losses
from amen_tf.config import GeneratorSettings
from amen_tf.features import FUTURE, ITEM_ID, PAD_ID, USER_KEY
from amen_tf.layers.embedding import event_mask
from amen_tf.layers.interest_flow_decoder import InterestFlowDecoder, causal_mask
from amen_tf.layers.request_encoder import InterestEncoder, with_prefix
from amen_tf.models.negatives import Catalogue, corrected_scores, is_negative
from amen_tf.models.ranking import keras_step
from amen_tf.spec import ModelSpec


class Flow(NamedTuple):
    """A decoded flow: heads `[B, T, H, d_head]` and f̂_{t0-1} `[B, d]`, both float32."""

    heads: tf.Tensor
    previous: tf.Tensor

    @property
    def states(self) -> tf.Tensor:
        """F̂ `[B, T, d]`."""
        return concat_heads(self.heads)


def concat_heads(heads: tf.Tensor) -> tf.Tensor:
    """Eq. (2): f̂_t = Concat(h_1, ..., h_H): `[B, T, H, d_head]` -> `[B, T, d]`."""
    return tf.reshape(heads, (tf.shape(heads)[0], tf.shape(heads)[1], heads.shape[-2] * heads.shape[-1]))


class FlowTokens(keras.layers.Layer):
    """The decoder's tokens after the moveline: the start token, then one per fed-back state.

    A fed-back vector has unit length; a learned scale brings it to the size of the event embeddings, and a learned
    vector per step says how far ahead it lies.

    Args:
      length: T.
      dim: d.
      std: standard deviation of the initialiser.
      seed: of the initialiser.
    """

    def __init__(self, length: int, dim: int, std: float, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.length, self.dim, self.std, self.seed = length, dim, std, seed

    def build(self, input_shape):
        initializer = keras.initializers.RandomNormal(stddev=self.std, seed=self.seed)
        self.step = self.add_weight(name="step", shape=(self.length, self.dim), initializer=initializer)
        scale = keras.initializers.Constant(self.std * self.dim**0.5)
        self.scale = self.add_weight(name="scale", shape=(), initializer=scale)
        super().build(input_shape)

    def call(self, vectors):
        """vectors of steps t0 ... t0+K-2 `[B, K-1, d]` (K may be 1) -> tokens of t0 ... t0+K-1 `[B, K, d]`."""
        start = tf.zeros_like(vectors[:, :1]) if vectors.shape[1] else tf.zeros((tf.shape(vectors)[0], 1, self.dim))
        fed = tf.concat([start, vectors * self.scale], 1)
        return fed + self.step[: fed.shape[1]]

    def next(self, state, step: int):
        """The token that follows state f̂ `[B, 1, d]`, `step` steps after t0."""
        return state * self.scale + self.step[step]


class Generator(keras.Model):
    """An autoregressive decoder over the moveline, a start token and one token per step already decoded.

    The state at the start token is f̂_t0; appending the vector of e_t (teacher forcing, in training) or f̂_t
    (inference) yields f̂_{t+1}. Reading of Eq. (1), whose f̂_t = G_φ(M_<t0) is written without the fed-back items:
    "autoregressively" and "teacher forcing" in the text decide. The start token stands for "now": it makes f̂_t0 well
    defined for an empty moveline and leaves the state at the last moveline event to be f̂_{t0-1} of Eq. (4)-(5). For
    an empty moveline f̂_{t0-1} = f̂_t0, so that its velocity is 0.

    Item vectors and flow states both have unit length wherever they are compared or fed back, so that sim() of
    Eq. (1) is a cosine over τ.

    Args:
      spec: features, sizes and shapes.
      settings: losses and their weights.
      catalogue: the items that negatives are drawn from; inference does without.
    """

    def __init__(self, spec: ModelSpec, settings: GeneratorSettings, catalogue: Catalogue | None = None, **kwargs):
        super().__init__(**kwargs)
        self.spec, self.settings, self.catalogue = spec, settings, catalogue
        shape = spec.shape
        self.encoder = InterestEncoder(spec, name="encoder")
        self.tokens = FlowTokens(shape.flow_length, shape.dim, shape.embedding_std, spec.seed + 3500, name="tokens")
        self.decoder = InterestFlowDecoder(
            settings.layers, shape.heads, shape.dim, shape.dropout, spec.seed + 3000, name="decoder"
        )
        names = ("loss", "info_nce", "diversity", "velocity", "accuracy")
        self.terms = {name: keras.metrics.Mean(name=name) for name in names}

    @property
    def metrics(self):
        return list(self.terms.values())

    def call(self, features, training=None):
        """features, of which the moveline is read -> F̂ `[B, T, d]`, decoded step by step."""
        return self.generate(features).states

    def item_vectors(self, items: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """field -> ids `[...]` -> unit vectors `[..., d]`: e as the flow knows it (zero for id 0 throughout)."""
        return tf.nn.l2_normalize(self.encoder.items(items), -1, epsilon=1e-12)

    def generate(self, features) -> Flow:
        """Inference: every f̂_t is fed back; keys and values of earlier positions are kept, not recomputed."""
        events, real = self._prompt(features)
        start = self.tokens(tf.zeros_like(events[:, :0]))
        heads, caches = self.decoder(tf.concat([events, start], 1), causal_mask(_more(real, 1)), training=False)
        previous, states = heads[:, -2], [heads[:, -1:]]
        for step in range(1, self.spec.shape.flow_length):
            token = self.tokens.next(concat_heads(states[-1]), step)
            state, caches = self.decoder(token, _more(real, step + 1)[:, tf.newaxis, :], caches, training=False)
            states.append(state)
        return self._flow(tf.concat(states, 1), previous, real)

    def teacher_forced(self, features, items: tf.Tensor, training: bool) -> Flow:
        """Training: the true e_t0 ... e_{t0+T-2} are fed, so that one causal pass decodes every step.

        Args:
          features: columns of the moveline.
          items: unit vectors of the future items `[B, T, d]`.
          training: whether dropout is on.
        """
        events, real = self._prompt(features)
        sequence = tf.concat([events, self.tokens(items[:, :-1])], 1)
        mask = causal_mask(_more(real, self.spec.shape.flow_length))
        heads, _ = self.decoder(sequence, mask, training=training)
        length = self.spec.shape.moveline_length
        return self._flow(heads[:, length:], heads[:, length - 1], real)

    def _prompt(self, features):
        return self.encoder(features), event_mask(self.encoder.moveline(features))

    def _flow(self, heads, previous, real) -> Flow:
        seen = tf.reduce_any(real, 1)[:, tf.newaxis]
        return Flow(
            heads, tf.where(seen, concat_heads(previous[:, tf.newaxis])[:, 0], concat_heads(heads[:, :1])[:, 0])
        )

    def compute_losses(self, features, training: bool, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Every term of Eq. (6) and the share of states whose own item scores highest in its pool (`accuracy`)."""
        future = with_prefix(features, FUTURE, self.spec.contract.item_fields)
        mask = future[ITEM_ID] != PAD_ID
        items = self.item_vectors(future)
        flow = self.teacher_forced(features, items, training)
        positive, negatives, negative_mask = self._scores(flow.states, items, future, mask, features[USER_KEY], seed)
        generative = losses.info_nce(positive, negatives, negative_mask, mask)
        diversity = losses.diversity_loss(flow.heads, mask)
        velocity = losses.velocity_loss(flow.states, flow.previous, mask)
        settings = self.settings
        loss = losses.stage1_loss(generative, diversity, velocity, settings.diversity_weight, settings.velocity_weight)
        best = tf.reduce_max(tf.where(negative_mask, negatives, float("-inf")), -1)
        hits = tf.cast((positive > best) & mask, tf.float32)
        accuracy = tf.math.divide_no_nan(tf.reduce_sum(hits), tf.reduce_sum(tf.cast(mask, tf.float32)))
        return {
            "loss": loss,
            "info_nce": generative,
            "diversity": diversity,
            "velocity": velocity,
            "accuracy": accuracy,
        }

    def _scores(self, states, items, future, mask, users, seed):
        """Corrected similarities of Eq. (1): positive `[B, T]`, negatives `[B, T, B + M]` and which of them count."""
        temperature, drawn = self.settings.temperature, self.settings.sampled_negatives
        ids, batch = future[ITEM_ID], tf.shape(states)[0]

        def probability(of):
            return self.catalogue.sampling_probability(of, batch, drawn)

        positive = corrected_scores(tf.einsum("btd,btd->bt", states, items) / temperature, probability(ids))
        in_batch = tf.einsum("btd,ctd->btc", states, items) / temperature
        in_batch = corrected_scores(in_batch, tf.transpose(probability(ids))[tf.newaxis])
        other_user = (users[:, tf.newaxis] != users[tf.newaxis, :])[:, tf.newaxis, :]
        usable = is_negative(tf.transpose(ids), ids) & other_user & tf.transpose(mask)[tf.newaxis]
        sample = self.catalogue.sample(drawn, seed)
        uniform = tf.einsum("btd,cd->btc", states, self.item_vectors(sample)) / temperature
        uniform = corrected_scores(uniform, probability(sample[ITEM_ID]))
        usable_sample = is_negative(sample[ITEM_ID][tf.newaxis], ids)
        usable_sample = tf.broadcast_to(usable_sample, tf.shape(uniform))
        return positive, tf.concat([in_batch, uniform], -1), tf.concat([usable, usable_sample], -1)

    @keras_step
    def train_step(self, data):
        seed = tf.stack([tf.constant(self.spec.seed, tf.int64), tf.cast(self.optimizer.iterations, tf.int64)])
        with tf.GradientTape() as tape:
            terms = self.compute_losses(data, True, seed)
        gradients = tape.gradient(terms["loss"], self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self._update(terms)

    @keras_step
    def test_step(self, data):
        # One fixed draw, so that epochs are compared on the same negatives.
        return self._update(self.compute_losses(data, False, tf.constant([self.spec.seed, -1], tf.int64)))

    def _update(self, terms):
        for name, value in terms.items():
            self.terms[name].update_state(value)
        return {name: metric.result() for name, metric in self.terms.items()}


def _more(real: tf.Tensor, count: int) -> tf.Tensor:
    """`[B, L]` bool -> `[B, L + count]`: tokens after the moveline are always real."""
    return tf.pad(real, ((0, 0), (0, count)), constant_values=True)
