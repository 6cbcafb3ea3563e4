"""Semantic Alignment Module (Eq. 7): the target item reads the Next Interest Flow."""

import tf_keras as keras

from amen_tf.layers.attention import attend, merge_heads, split_heads
from amen_tf.layers.dense import Dense


class SemanticAlignment(keras.layers.Layer):
    """Eq. (7): a_flow = Attention(Query = e_t0, Key = F̂, Value = F̂).

    Reading: multi-head attention with learned projections. The target is looked up in the generator's own item
    table, because the flow was learned to resemble vectors of that table. All T states are real, so there is no mask.

    Args:
      heads: H.
      dim: d.
      seed: seed of the first kernel.
    """

    def __init__(self, heads: int, dim: int, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.dim, self.seed = heads, dim, seed
        self.query, self.key, self.value, self.output_projection = (
            Dense(dim, use_bias=False, kernel_initializer=keras.initializers.GlorotUniform(seed=seed + i), name=name)
            for i, name in enumerate(("query", "key", "value", "output"))
        )

    def call(self, targets, flow, return_weights: bool = False):
        """targets `[B, N, d]`, flow `[B, T, d]` -> a_flow `[B, N, d]`; optionally the attention `[B, H, N, T]`."""
        query = split_heads(self.query(targets), self.heads)
        key, value = split_heads(self.key(flow), self.heads), split_heads(self.value(flow), self.heads)
        read, weights = attend(query, key, value)
        aligned = self.output_projection(merge_heads(read))
        return (aligned, weights) if return_weights else aligned

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "dim": self.dim, "seed": self.seed}
