"""DIN: Deep Interest Network (Zhou et al. 2018)."""

from amen_tf.layers.activation_unit import ActivationUnit
from amen_tf.models.candidate_ranker import CandidateRanker, Encoded
from amen_tf.spec import ModelSpec

# Width of the activation unit's hidden layer; 36 in the paper, in steps that suit the hardware.
UNITS = 32


class DIN(CandidateRanker):
    """h_user by DIN's activation unit over the moveline.

    Args:
      spec: features, sizes and shapes.
    """

    title = "DIN"

    def __init__(self, spec: ModelSpec, **kwargs):
        super().__init__(spec, **kwargs)
        self.attention = ActivationUnit(spec.shape.dim, UNITS, spec.seed + 2000, name="attention")

    def interest(self, encoded: Encoded):
        h_user = self.attention(encoded.targets, encoded.events, encoded.mask)
        return [h_user, encoded.targets * h_user], []
