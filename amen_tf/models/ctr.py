"""F_θ: the CTR model of stage 2 (Eq. 7-10), on top of a frozen generator."""

import pathlib
from typing import NamedTuple

import tensorflow as tf

from amen_tf import losses
from amen_tf.config import CtrSettings
from amen_tf.features import (
    CANDIDATE_MASK,
    CATEGORY_ID,
    DIFF_CLICKED,
    DIFF_UNCLICKED,
    DIVERSITY,
    FLOW,
    ITEM_ID,
    LABEL,
    MOVELINE_LENGTH,
    PAD_ID,
    VELOCITY,
)
from amen_tf.layers.calibration import CalibrationNet, prefix_mask
from amen_tf.layers.embedding import concat_fields, shared_id
from amen_tf.layers.request_encoder import with_prefix
from amen_tf.layers.semantic_alignment import SemanticAlignment
from amen_tf.layers.similar_events import SimilarEvents
from amen_tf.models.base import BaseModel
from amen_tf.models.candidate_ranker import Encoded
from amen_tf.models.frozen_generator import FrozenGenerator, GeneratedItems
from amen_tf.spec import ModelSpec

# Order of the two diff samples along their axis.
CLICKED, UNCLICKED = 0, 1


class Scores(NamedTuple):
    """ŷ_main and c_tsp of the candidates `[B, N]`; c of the diff samples `[B, 2]` or None outside training."""

    main: tf.Tensor
    calibration: tf.Tensor
    diff_calibration: tf.Tensor | None

    @property
    def logits(self) -> tf.Tensor:
        """Eq. (8) before the sigmoid: ŷ = σ(ŷ_main + c_tsp), `[B, N]` float32.

        Reading: the paper does not say whether c_tsp stays at inference. It does here, in training, evaluation and
        serving alike: a model is served as it was trained.
        """
        return self.main + self.calibration


class CtrModel(BaseModel):
    """AMEN: h_user as in the base, the aligned flow, diversity, velocity and the calibration score.

    z = [a_flow, h_user, mean S_div, v_t0, e_t0, match, side features] -> MLP -> ŷ_main; ŷ = σ(ŷ_main + c_tsp). With
    `settings.flow_similarity` z also has the cosine of the target with each flow state, in the generator's own table;
    with `settings.moveline_similarity`, how near the target is to what the user has touched of its category, by what
    the generator knows of items beyond their category. Neither is in the paper. Whatever depends on the user alone is
    computed once per request.

    Args:
      spec: features, sizes and shapes.
      settings: λ and which parts are on.
      generator: the loaded generator, or the folder that it was exported to; None when `settings.use_flow` is off.
    """

    loss_terms = ("loss", "cross_entropy", "tsp")

    def __init__(
        self, spec: ModelSpec, settings: CtrSettings, generator: FrozenGenerator | str | pathlib.Path | None, **kwargs
    ):
        super().__init__(spec, **kwargs)
        self.settings = settings
        shape, seed = spec.shape, spec.seed
        self.calibration = CalibrationNet(shape.heads, shape.dim, shape.dim, seed + 4000, name="calibration")
        if settings.use_flow:
            loaded = isinstance(generator, FrozenGenerator)
            self.generator = generator if loaded else FrozenGenerator(generator, spec.contract, name="generator")
            self.similar = SimilarEvents(dtype=tf.float32, name="similar") if settings.moveline_similarity else None
            self.alignment = SemanticAlignment(shape.heads, shape.dim, seed + 4200, name="alignment")

    @property
    def frozen_parts(self) -> list:
        """What an export must keep beside the model's own variables: the loaded generator."""
        return [self.generator.loaded] if self.settings.use_flow else []

    def call(self, features, training=None):
        """features (see `amen_tf.features`) -> logits `[B, N]` float32: ŷ_main + c_tsp."""
        return self.score(features, training=training).logits

    def flow(self, features) -> dict[str, tf.Tensor]:
        """The frozen generator's outputs; taken from `features` where an input pipeline has computed them before."""
        if FLOW in features:
            return {name: features[name] for name in (FLOW, DIVERSITY, VELOCITY)}
        return self.generator(features)

    def score(self, features, training=None, with_diff: bool = False) -> Scores:
        """Scores candidates and, with `with_diff`, the diff samples from the same encoding of the moveline."""
        encoded = self.encode(features, training)
        per_candidate, per_request = self.merge_inputs(features, encoded)
        targets, events, mask = encoded.targets, encoded.events, encoded.mask
        if self.settings.use_flow:
            flow, items = self._generated(features)
            vectors = items.candidates
            per_candidate.append(self._aligned(vectors, flow[FLOW]))
            if self.settings.flow_similarity:
                per_candidate.append(tf.matmul(vectors, flow[FLOW], transpose_b=True))
            # A state has unit length: zeros say that this request was given no flow.
            known = tf.cast(tf.reduce_any(flow[FLOW][:, 0] != 0.0, -1, keepdims=True), tf.float32)
            per_request += [tf.reduce_mean(flow[DIVERSITY], -1, keepdims=True), flow[VELOCITY][:, 0], known]
            if self.similar is not None:
                # Nor may the generator's item vectors speak where its flow may not: they know the same clicks.
                per_candidate.append(self._similar(encoded, items) * known[:, tf.newaxis])
        main = self.merged(per_candidate, per_request, training)
        if not with_diff:
            return Scores(main, self.calibration(targets, events, mask), None)
        diff, diff_mask = self._diff(features, mask)
        count = tf.shape(targets)[1]
        candidate_mask = tf.repeat(mask[:, tf.newaxis, :], count, axis=1)
        calibration = self.calibration(
            tf.concat([targets, self.encoder.items(diff, training=training)], 1),
            events,
            tf.concat([candidate_mask, diff_mask], 1),
        )
        return Scores(main, calibration[:, :count], calibration[:, count:])

    def _generated(self, features) -> tuple[dict[str, tf.Tensor], GeneratedItems]:
        """The flow, which may be there already, and what the generator knows of the items."""
        if FLOW in features:
            return self.flow(features), self.generator.of_items(features)
        return self.generator.of_request(features)

    def _similar(self, encoded: Encoded, items: GeneratedItems) -> tf.Tensor:
        """Nearness `[B, N, .]` of each candidate to events whose item has its category; to have none is one of them."""
        has_item = encoded.mask & (encoded.moveline[ITEM_ID] != PAD_ID)
        same = shared_id(encoded.candidates[CATEGORY_ID], encoded.moveline[CATEGORY_ID], has_item)
        return self.similar(items.beyond, items.moveline_beyond, same)

    def alignment_weights(self, features) -> tf.Tensor:
        """The attention of Eq. (7), `[B, H, N, T]` float32: which flow states each candidate reads (Figure 2).

        Raises:
          ValueError: the model has no flow or no alignment.
        """
        if not (self.settings.use_flow and self.settings.use_alignment):
            raise ValueError("Expected a model with ctr.use_flow and ctr.use_alignment; this one attends to no flow.")
        vectors = self.generator.candidate_vectors(features)
        return self.alignment(vectors, self.flow(features)[FLOW], return_weights=True)[1]

    def _aligned(self, vectors, flow):
        """a_flow `[B, N, d]` of Eq. (7); without alignment, the plain mean of the flow for every candidate."""
        if self.settings.use_alignment:
            return self.alignment(vectors, flow)
        return tf.repeat(tf.reduce_mean(flow, 1, keepdims=True), tf.shape(vectors)[1], axis=1)

    def _diff(self, features, mask):
        """Items of the clicked and the unclicked diff sample: field -> `[B, 2]`, and their prefixes `[B, 2, L]`."""
        fields = self.spec.contract.item_fields
        samples = [with_prefix(features, prefix, fields) for prefix in (DIFF_CLICKED, DIFF_UNCLICKED)]
        items = concat_fields([{f: ids[:, tf.newaxis] for f, ids in sample.items()} for sample in samples], 1)
        lengths = tf.stack([features[p + MOVELINE_LENGTH] for p in (DIFF_CLICKED, DIFF_UNCLICKED)], 1)
        return items, prefix_mask(mask, lengths)

    def compute_losses(self, features, training: bool):
        scores = self.score(features, training=training, with_diff=True)
        label, mask = features[LABEL], features[CANDIDATE_MASK]
        cross_entropy = losses.cross_entropy(label, scores.logits, mask)
        # A clicked candidate pairs with the unclicked diff sample and the other way round.
        other = tf.where(label > 0.5, UNCLICKED, CLICKED)
        exists = tf.stack([features[p + ITEM_ID] != PAD_ID for p in (DIFF_CLICKED, DIFF_UNCLICKED)], 1)
        tsp = losses.tsp_loss(
            scores.calibration,
            tf.gather(scores.diff_calibration, other, batch_dims=1),
            1.0 - label,
            mask & tf.gather(exists, other, batch_dims=1),
            self.settings.tsp_pairs == "balanced",
        )
        loss = losses.stage2_loss(cross_entropy, tsp, self.settings.tsp_weight)
        return {"loss": loss, "cross_entropy": cross_entropy, "tsp": tsp}, scores.logits
