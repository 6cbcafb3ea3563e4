"""G_φ: the generator of the Next Interest Flow (stage 1, Eq. 1-6 and Algorithm 1)."""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf
import tf_keras as keras

from amen_tf import losses
from amen_tf.config import GeneratorSettings
from amen_tf.distribution import gather_replicas, sum_over_replicas
from amen_tf.features import FUTURE, ITEM_ID, MOVELINE, PAD_ID, USER_KEY
from amen_tf.layers.embedding import event_mask
from amen_tf.layers.flow_tokens import FlowTokens, FlowValues
from amen_tf.layers.interest_flow_decoder import InterestFlowDecoder, causal_mask, parallel_mask
from amen_tf.layers.request_encoder import InterestEncoder, with_prefix
from amen_tf.layers.shapes import leading
from amen_tf.models.negatives import Catalogue, corrected_scores, is_negative
from amen_tf.models.ranking import keras_step
from amen_tf.precision import descend
from amen_tf.spec import ModelSpec


class Flow(NamedTuple):
    """A decoded flow: heads `[B, T, H, d_head]` and f̂_{t0-1} `[B, d]`, both float32."""

    heads: tf.Tensor
    previous: tf.Tensor

    @property
    def states(self) -> tf.Tensor:
        """F̂ `[B, T, d]`."""
        return concat_heads(self.heads)


class Decoded(NamedTuple):
    """A pass over a whole sequence: the flow, and the states at the events of the moveline `[B, L, d]` float32."""

    flow: Flow
    events: tf.Tensor


class Pool(NamedTuple):
    """What negatives of a batch are taken from: C rows of the global batch and M items of the catalogue.

    Attributes:
      items: `[C, T, d]` float32, unit vectors of their future items.
      ids: `[C, T]` int64 item ids, 0 where there is none.
      users: `[C]` int64 user keys.
      own_users: `[B]` int64, user keys of this replica's rows.
      sampled: `[M, d]` float32, unit vectors of the drawn items.
      sampled_ids: `[M]` int64.
    """

    items: tf.Tensor
    ids: tf.Tensor
    users: tf.Tensor
    own_users: tf.Tensor
    sampled: tf.Tensor
    sampled_ids: tf.Tensor


class ItemKnowledge(NamedTuple):
    """What a generator knows of items, `[..., d]` each.

    Attributes:
      vectors: as its decoder reads them.
      unit: of length 1, as its flow is compared with them; float32.
      beyond_category: what sets items apart from others of their category, of length 1: the part of an item's vector at
        right angles to that of the same item without its id; 0 where an id says nothing, because it is absent or was
        new after stage 1. float32.
    """

    vectors: tf.Tensor
    unit: tf.Tensor
    beyond_category: tf.Tensor


def concat_heads(heads: tf.Tensor) -> tf.Tensor:
    """Eq. (2): f̂_t = Concat(h_1, ..., h_H): `[B, T, H, d_head]` -> `[B, T, d]`."""
    return tf.reshape(heads, [*leading(heads, 2), heads.shape[-2] * heads.shape[-1]])


class Prompt(NamedTuple):
    """The moveline as the decoder reads it.

    Attributes:
      tokens: `[B, L, d]`, the events' embeddings, which say what is read.
      values: `[B, L, d]` float32, the unit vectors of their items, which is what is read.
      real: `[B, L]` bool, False = padding.
    """

    tokens: tf.Tensor
    values: tf.Tensor
    real: tf.Tensor


class Generator(keras.Model):
    """A causal decoder over the moveline and T tokens, the first of which stands for "now" (Algorithm 1, lines 2-12).

    The paper can be read in two ways, which `settings.decoder` chooses from:

    - `autoregressive`: the state at the start token is f̂_t0; appending the vector of e_t (teacher forcing, in training)
      or f̂_t (inference) yields f̂_{t+1}. "Autoregressively" and "teacher forcing" in the text speak for it.
    - `parallel`: f̂_t = G_φ(M_<t0) with the same prefix for all t, as Eq. (1) and Algorithm 1 are written: T tokens,
      told apart by a learned vector per step, read the moveline and not one another.

    The start token makes f̂_t0 well defined for an empty moveline and leaves the state at the last moveline event to be
    f̂_{t0-1} of Eq. (4)-(5). For an empty moveline f̂_{t0-1} = f̂_t0, so that its velocity is 0.

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
        self.encoder = InterestEncoder(spec, settings.item_dropout, name="encoder")
        self.tokens = FlowTokens(shape.flow_length, shape.dim, shape.embedding_std, spec.seed + 3500, name="tokens")
        self.values = None
        if settings.readout == "heads":
            self.values = FlowValues(shape.embedding_std, spec.seed + 3600, dtype=tf.float32, name="values")
        self.decoder = InterestFlowDecoder(
            settings.layers, shape.heads, shape.dim, shape.dropout, spec.seed + 3000, settings.readout, name="decoder"
        )
        names = ["loss", "info_nce", "diversity", "velocity", "accuracy"]
        names += ["next_item"] if settings.next_item_weight else []
        self.terms = {name: keras.metrics.Mean(name=name) for name in names}

    @property
    def metrics(self):
        return list(self.terms.values())

    def call(self, features, training=None):
        """features, of which the moveline is read -> F̂ `[B, T, d]`, decoded step by step."""
        return self.generate(features).states

    def item_vectors(self, items: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """field -> ids `[...]` -> unit vectors `[..., d]`: e as the flow knows it (zero for id 0 throughout)."""
        return _unit(self.encoder.items(items, training=training))

    def known_of(self, items: Mapping[str, tf.Tensor]) -> "ItemKnowledge":
        """Everything that the generator knows of items, with one look into each table: field -> ids `[...]`."""
        parts = self.encoder.items.parts(items)
        vectors = tf.add_n(list(parts.values()))
        return ItemKnowledge(vectors, _unit(vectors), _beyond_category(parts))

    def generate(self, features, items: tf.Tensor | None = None) -> Flow:
        """Inference: every f̂_t is fed back; keys and values of earlier positions are kept, not recomputed.

        Args:
          features: columns of the moveline.
          items: what `known_of` says of its items' vectors `[B, L, d]`, where that has been asked.
        """
        if self.settings.decoder == "parallel":
            return self._in_parallel(features, False, items).flow
        prompt = self._prompt(features, False, items)
        heads, caches = self._decode(prompt, prompt.values[:, :0], causal_mask(_more(prompt.real, 1)), False)
        previous, states = heads[:, -2], [heads[:, -1:]]
        for step in range(1, self.spec.shape.flow_length):
            state = concat_heads(states[-1])
            token, mask = self.tokens.next(tf.cast(state, prompt.tokens.dtype), step), _more(prompt.real, step + 1)
            heads, caches = self.decoder(token, mask[:, tf.newaxis, :], caches, training=False, values=state)
            states.append(heads)
        return self._flow(tf.concat(states, 1), previous, prompt.real)

    def teacher_forced(self, features, items: tf.Tensor, training: bool) -> Decoded:
        """Training: the true e_t0 ... e_{t0+T-2} are fed, so that one causal pass decodes every step.

        Args:
          features: columns of the moveline.
          items: unit vectors of the future items `[B, T, d]`; the parallel decoder does not read them.
          training: whether dropout is on.
        """
        if self.settings.decoder == "parallel":
            return self._in_parallel(features, training)
        prompt = self._prompt(features, training)
        mask = causal_mask(_more(prompt.real, self.spec.shape.flow_length))
        return self._decoded(prompt, items[:, :-1], mask, training)

    def _in_parallel(self, features, training: bool, items: tf.Tensor | None = None) -> Decoded:
        prompt = self._prompt(features, training, items)
        fed = tf.zeros_like(prompt.values[:, :1]) * tf.ones((1, self.spec.shape.flow_length - 1, 1))
        mask = parallel_mask(prompt.real, self.spec.shape.flow_length)
        return self._decoded(prompt, fed, mask, training)

    def _decoded(self, prompt: Prompt, fed, mask, training) -> Decoded:
        heads, _ = self._decode(prompt, fed, mask, training)
        length = self.spec.shape.moveline_length
        flow = self._flow(heads[:, length:], heads[:, length - 1], prompt.real)
        return Decoded(flow, concat_heads(heads[:, :length]))

    def _decode(self, prompt: Prompt, fed, mask, training):
        """Moveline and K tokens in one pass; `fed` `[B, K-1, d]`: the unit vectors behind all tokens but the first."""
        tokens = self.tokens(tf.cast(fed, prompt.tokens.dtype))
        values = tf.concat([prompt.values, self._read(tf.pad(fed, ((0, 0), (1, 0), (0, 0))))], 1)
        return self.decoder(tf.concat([prompt.tokens, tokens], 1), mask, training=training, values=values)

    def _prompt(self, features, training: bool, items: tf.Tensor | None = None) -> Prompt:
        if items is None:
            fields = self.spec.contract.item_fields
            items = self.encoder.items(with_prefix(features, MOVELINE, fields), training=training)
        tokens = self.encoder(features, training=training, items=items)
        return Prompt(tokens, self._read(_unit(items)), event_mask(self.encoder.moveline(features)))

    def _read(self, vectors: tf.Tensor) -> tf.Tensor:
        """What heads read at items' unit vectors; the read-outs that make their own values do not look at it."""
        return vectors if self.values is None else self.values(vectors)

    def _flow(self, heads, previous, real) -> Flow:
        seen = tf.reduce_any(real, 1)[:, tf.newaxis]
        return Flow(
            heads, tf.where(seen, concat_heads(previous[:, tf.newaxis])[:, 0], concat_heads(heads[:, :1])[:, 0])
        )

    def compute_losses(self, features, training: bool, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Every term of Eq. (6) and the share of states whose own item scores highest in its pool (`accuracy`)."""
        future = with_prefix(features, FUTURE, self.spec.contract.item_fields)
        mask = future[ITEM_ID] != PAD_ID
        counted = mask & self._is_target(future[ITEM_ID], features[MOVELINE + ITEM_ID])
        items = self.item_vectors(future, training)
        decoded = self.teacher_forced(features, items, training)
        flow = decoded.flow
        pool = self._pool(items, future[ITEM_ID], features[USER_KEY], seed, training)
        positive, negatives, negative_mask = self._window_scores(flow.states, items, future[ITEM_ID], pool)
        generative = losses.info_nce(positive, negatives, negative_mask, counted)
        diversity = losses.diversity_loss(flow.heads, mask)
        velocity = losses.velocity_loss(flow.states, flow.previous, mask)
        settings = self.settings
        loss = losses.stage1_loss(generative, diversity, velocity, settings.diversity_weight, settings.velocity_weight)
        best = tf.reduce_max(tf.where(negative_mask, negatives, float("-inf")), -1)
        hits = tf.cast((positive > best) & counted, tf.float32)
        accuracy = losses.share(tf.reduce_sum(hits), tf.reduce_sum(tf.cast(counted, tf.float32)))
        terms = {"info_nce": generative, "diversity": diversity, "velocity": velocity, "accuracy": accuracy}
        if settings.next_item_weight:
            terms["next_item"] = self._next_item(features, decoded.events, pool, training)
            loss += settings.next_item_weight * terms["next_item"]
        return {"loss": loss, **terms}

    def _next_item(self, features, states, pool: Pool, training: bool) -> tf.Tensor:
        """The state at every event against the item of the next event, as SASRec and HSTU are trained.

        The last event is left out: what comes after it is the future, which the start token answers for. The negatives
        are those of step t0. Scalar: the mean over all events that are followed by one with an item.
        """
        items = with_prefix(features, MOVELINE, self.spec.contract.item_fields)
        following = {field: ids[:, 1:] for field, ids in items.items()}
        mask = event_mask(self.encoder.moveline(features))[:, :-1] & (following[ITEM_ID] != PAD_ID)
        length = self.spec.shape.moveline_length
        earlier = tf.linalg.band_part(tf.ones((length - 1, length), tf.bool), -1, 0)
        mask &= self._is_target(following[ITEM_ID], items[ITEM_ID], earlier)
        vectors = self.item_vectors(following, training)
        positive, negatives, usable = self._event_scores(states[:, :-1], vectors, following[ITEM_ID], pool)
        return losses.info_nce_mean(positive, negatives, usable, mask)

    def _is_target(self, ids, seen, earlier=True) -> tf.Tensor:
        """Which items, `[B, S]` bool, the settings let the flow be trained on.

        Args:
          ids: `[B, S]` int64 item ids.
          seen: `[B, L]` int64 item ids of the moveline.
          earlier: `[S, L]` bool, which events of the moveline come before each of `ids`; all of them if not given.
        """
        if self.settings.targets == "all":
            return tf.ones_like(ids, tf.bool)
        return ~tf.reduce_any((ids[:, :, tf.newaxis] == seen[:, tf.newaxis, :]) & earlier, -1)

    def _pool(self, items, ids, users, seed, training: bool) -> Pool:
        """The pool of this batch, over all replicas that train together: the batch is the global one."""
        sample = self.catalogue.sample(self.settings.sampled_negatives, seed)
        in_batch = (gather_replicas(x) for x in (items, ids, users))
        return Pool(*in_batch, users, self.item_vectors(sample, training), sample[ITEM_ID])

    def _corrected(self, similarity, ids, pool: Pool):
        """sim / τ with the log-Q correction for items `ids`, broadcastable to `similarity`."""
        drawn = self.settings.sampled_negatives
        probability = self.catalogue.sampling_probability(ids, tf.shape(pool.ids)[0], drawn)
        return corrected_scores(similarity / self.settings.temperature, probability)

    def _window_scores(self, states, items, ids, pool: Pool):
        """Eq. (1): positive `[B, T]`, negatives `[B, T, C + M]` and which of them count.

        The in-batch negatives of step t are the t-th future items of others; a row's own future is never among them.
        """
        positive = self._corrected(tf.einsum("btd,btd->bt", states, items), ids, pool)
        by_step = tf.transpose(pool.ids)
        in_batch = self._corrected(tf.einsum("btd,ctd->btc", states, pool.items), by_step[tf.newaxis], pool)
        other_user = (pool.own_users[:, tf.newaxis] != pool.users[tf.newaxis, :])[:, tf.newaxis, :]
        usable = is_negative(by_step, ids) & other_user
        drawn = self._corrected(tf.einsum("btd,cd->btc", states, pool.sampled), pool.sampled_ids, pool)
        usable_drawn = tf.broadcast_to(is_negative(pool.sampled_ids[tf.newaxis], ids), tf.shape(drawn))
        return positive, tf.concat([in_batch, drawn], -1), tf.concat([usable, usable_drawn], -1)

    def _event_scores(self, states, items, ids, pool: Pool):
        """The same for a state at every event, `S` of them: positive `[B, S]`, negatives `[B, S, C + M]`, their mask.

        One pool serves all events: the items that others go on to at t0, and those drawn from the catalogue.
        """
        positive = self._corrected(tf.einsum("bsd,bsd->bs", states, items), ids, pool)
        vectors = tf.concat([pool.items[:, 0], pool.sampled], 0)
        candidates = tf.concat([pool.ids[:, 0], pool.sampled_ids], 0)
        negatives = self._corrected(tf.einsum("bsd,cd->bsc", states, vectors), candidates, pool)
        other_user = pool.own_users[:, tf.newaxis] != pool.users[tf.newaxis, :]
        other_user = tf.pad(other_user, ((0, 0), (0, tf.size(pool.sampled_ids))), constant_values=True)
        usable = (candidates != ids[..., tf.newaxis]) & (candidates != PAD_ID) & other_user[:, tf.newaxis, :]
        return positive, negatives, usable

    @keras_step
    def train_step(self, data):
        seed = tf.stack([tf.constant(self.spec.seed, tf.int64), tf.cast(self.optimizer.iterations, tf.int64)])
        with tf.GradientTape() as tape:
            terms = self.compute_losses(data, True, seed)
        descend(self, tape, terms["loss"])
        return self._update(terms)

    @keras_step
    def test_step(self, data):
        # One fixed draw, so that epochs are compared on the same negatives.
        return self._update(self.compute_losses(data, False, tf.constant([self.spec.seed, -1], tf.int64)))

    def _update(self, terms):
        for name, value in terms.items():
            self.terms[name].update_state(sum_over_replicas(value))
        return {name: metric.result() for name, metric in self.terms.items()}


def _unit(vectors: tf.Tensor) -> tf.Tensor:
    """`[..., d]` -> float32 vectors of length 1, or 0 where they are zero throughout."""
    vectors = tf.cast(vectors, tf.float32)
    squares = tf.reduce_sum(vectors**2, -1, keepdims=True)
    # Scaled by 1e6 there, a gradient would fill Adam's second moments, and the vector would hardly move ever after.
    return vectors * tf.where(squares == 0.0, 1.0, tf.math.rsqrt(tf.maximum(squares, 1e-12)))


def _beyond_category(parts: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """See `ItemKnowledge`; field -> embeddings `[..., d]`."""
    others = [vectors for field, vectors in parts.items() if field != ITEM_ID]
    category = _unit(tf.add_n(others))
    own = tf.cast(parts[ITEM_ID], category.dtype)
    return _unit(own - tf.reduce_sum(own * category, -1, keepdims=True) * category)


def _more(real: tf.Tensor, count: int) -> tf.Tensor:
    """`[B, L]` bool -> `[B, L + count]`: tokens after the moveline are always real."""
    return tf.pad(real, ((0, 0), (0, count)), constant_values=True)
