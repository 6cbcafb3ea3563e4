"""Θ_base: the discriminative base model (the paper's MEDN), source of the weight initialisation."""

import tensorflow as tf

from amen_tf.layers.embedding import event_mask
from amen_tf.layers.match_features import MatchFeatures
from amen_tf.layers.merge_mlp import MergeMLP
from amen_tf.layers.request_encoder import InterestEncoder, SideEmbedding
from amen_tf.layers.target_attention import TargetAttention
from amen_tf.models.ranking import RankingModel
from amen_tf.spec import ModelSpec


class BaseModel(RankingModel):
    """Multi-head target attention over the moveline, match features, side features, merge MLP.

    The paper names MEDN but does not publish it; this is our reading of a strong internal baseline.

    Args:
      spec: features, sizes and shapes.
    """

    def __init__(self, spec: ModelSpec, **kwargs):
        super().__init__(**kwargs)
        self.spec = spec
        shape, seed = spec.shape, spec.seed
        self.encoder = InterestEncoder(spec, name="encoder")
        self.attention = TargetAttention(shape.heads, shape.dim, seed + 2000, name="attention")
        self.match = MatchFeatures(spec.contract.item_fields[:2], name="match")
        self.request_side = SideEmbedding.of_request(spec, name="request_side")
        self.candidate_side = SideEmbedding.of_candidate(spec, name="candidate_side")
        self.merge = MergeMLP(shape.hidden_units, shape.dropout, seed + 2100, name="merge")

    def call(self, features, training=None):
        """features (see `amen_tf.features`) -> logits `[B, N]` float32."""
        moveline, candidates = self.encoder.moveline(features), self.encoder.candidates(features)
        events, targets = self.encoder(features), self.encoder.items(candidates)
        h_user = self.attention(targets, events, event_mask(moveline))
        per_candidate = [
            targets,
            h_user,
            targets * h_user,
            self.match(candidates, moveline),
            self.candidate_side(features, targets),
        ]
        request = self.request_side(features, events[:, 0])
        return self.merge(tf.concat(per_candidate, -1), request, training=training)
