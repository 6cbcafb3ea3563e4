"""What every model of Table 2 has in common: its features, its inputs to the merge MLP, its training and evaluation."""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from amen_tf.features import BEHAVIOR, ITEM_ID
from amen_tf.layers.embedding import concat_fields, event_mask
from amen_tf.layers.match_features import MatchFeatures
from amen_tf.layers.matched_events import MatchedEvents
from amen_tf.layers.merge_mlp import MergeMLP
from amen_tf.layers.request_encoder import SIDE_DIM, InterestEncoder, SideEmbedding
from amen_tf.models.ranking import RankingModel
from amen_tf.spec import ModelSpec

# The merge MLP's first kernels -> the owners of the declared features that they read, in the order of declaration.
MERGE_INPUTS = {"merge/candidate_input/kernel": ("candidate",), "merge/request_input/kernel": ("user", "context")}


class Encoded(NamedTuple):
    """A batch of requests as ids and as vectors.

    Attributes:
      moveline: field -> ids `[B, L]`.
      candidates: field -> ids `[B, N]`.
      events: `[B, L, d]`.
      targets: `[B, N, d]`, the candidate items.
      mask: `[B, L]` bool, True = real event.
    """

    moveline: Mapping[str, tf.Tensor]
    candidates: Mapping[str, tf.Tensor]
    events: tf.Tensor
    targets: tf.Tensor
    mask: tf.Tensor


class CandidateRanker(RankingModel):
    """Embeddings, match features and side features; what a subclass makes of the moveline; the merge MLP.

    Models differ in `interest` alone, so that a difference in AUC is a difference of the models and not of what they
    are given.

    Args:
      spec: features, sizes and shapes.

    Attributes:
      title: what tables call the model.
    """

    title: str

    def __init__(self, spec: ModelSpec, **kwargs):
        super().__init__(**kwargs)
        self.spec = spec
        shape = spec.shape
        matched = spec.contract.item_fields[:2] if shape.match_features else ()
        self.encoder = InterestEncoder(spec, shape.item_dropout, name="encoder")
        self.match = MatchFeatures(matched, name="match")
        self.matched = None
        if matched:
            self.matched = MatchedEvents(
                matched, spec.sizes[BEHAVIOR], SIDE_DIM, shape.embedding_std, spec.seed + 1400, name="matched"
            )
        self.request_side = SideEmbedding.of_request(spec, name="request_side")
        self.candidate_side = SideEmbedding.of_candidate(spec, name="candidate_side")
        self.merge = MergeMLP(shape.hidden_units, shape.dropout, spec.seed + 2100, name="merge")

    def interest(self, encoded: Encoded) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """What the model reads from the moveline: tensors `[B, N, .]` and tensors `[B, .]`."""
        raise NotImplementedError

    def encode(self, features: Mapping[str, tf.Tensor], training=None) -> Encoded:
        """Looks everything up once: candidates and moveline together, so that each table of items is read from once."""
        moveline, candidates = self.encoder.moveline(features), self.encoder.candidates(features)
        both = concat_fields([candidates, {field: moveline[field] for field in candidates}], 1)
        counts = [tf.shape(candidates[ITEM_ID])[1], self.spec.shape.moveline_length]
        targets, items = tf.split(self.encoder.items(both, training=training), counts, 1)
        events = self.encoder(features, training=training, items=items)
        return Encoded(moveline, candidates, events, targets, event_mask(moveline))

    def merge_inputs(self, features, encoded: Encoded) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Inputs of the merge MLP, by candidate `[B, N, .]` and by request `[B, .]`."""
        per_candidate, per_request = self.interest(encoded)
        per_candidate = [
            encoded.targets,
            *per_candidate,
            self.match(encoded.candidates, encoded.moveline),
            self.candidate_side(features, encoded.targets),
            *([self.matched(encoded.candidates, encoded.moveline)] if self.matched is not None else []),
        ]
        return per_candidate, [*per_request, self.request_side(features, encoded.events[:, 0])]

    def call(self, features, training=None):
        """features (see `amen_tf.features`) -> logits `[B, N]` float32."""
        return self.merged(*self.merge_inputs(features, self.encode(features, training)), training)

    def merged(self, per_candidate: list[tf.Tensor], per_request: list[tf.Tensor], training) -> tf.Tensor:
        """Inputs of the merge MLP -> its logits `[B, N]` float32."""

        def joined(parts):
            return tf.concat([tf.cast(part, self.compute_dtype) for part in parts], -1)

        return self.merge(joined(per_candidate), joined(per_request), training=training)
