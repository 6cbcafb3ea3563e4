"""Θ_base: the discriminative base model (the paper's MEDN), source of the weight initialisation."""

from amen_tf.layers.target_attention import TargetAttention
from amen_tf.models.candidate_ranker import CandidateRanker, Encoded
from amen_tf.spec import ModelSpec


class BaseModel(CandidateRanker):
    """h_user by multi-head target attention over the moveline, and its product with the target.

    The paper names MEDN but does not publish it; this is our reading of a strong internal baseline.

    Args:
      spec: features, sizes and shapes.
    """

    title = "MEDN (base)"

    def __init__(self, spec: ModelSpec, **kwargs):
        super().__init__(spec, **kwargs)
        self.attention = TargetAttention(spec.shape.heads, spec.shape.dim, spec.seed + 2000, name="attention")

    def interest(self, encoded: Encoded):
        h_user = self.attention(encoded.targets, encoded.events, encoded.mask)
        return [h_user, encoded.targets * h_user], []
