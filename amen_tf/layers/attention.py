"""Scaled dot-product attention over heads, shared by every layer that attends."""

import tensorflow as tf

# Added to masked scores; large enough to vanish in the softmax.
MASKED = -1e4


def split_heads(x: tf.Tensor, heads: int) -> tf.Tensor:
    """`[B, S, d]` -> `[B, H, S, d_head]`, the order in which one matrix product serves a whole head."""
    return tf.stack(tf.split(x, heads, -1), 1)


def merge_heads(x: tf.Tensor) -> tf.Tensor:
    """`[B, H, S, d_head]` -> `[B, S, H * d_head]`, the inverse of `split_heads`."""
    return tf.concat(tf.unstack(x, axis=1), -1)


def attend(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """softmax(q·k / sqrt(d_head)) v, with masked places far below all others before the softmax.

    Args:
      query: `[B, H, N, d_head]`.
      key, value: `[B, H, S, d_head]`.
      mask: `[B, N or 1, S]` bool, True = may be read.

    Returns:
      What is read, `[B, H, N, d_head]` of the values' dtype, and the weights `[B, H, N, S]`, float32 under every
      precision.
    """
    query *= query.shape[-1] ** -0.5
    # A step of decoding has one query: to start a large operation takes longer than these few numbers do.
    once = query.shape[2] == 1
    if once:
        scores = tf.reduce_sum(tf.cast(query, tf.float32) * tf.cast(key, tf.float32), -1)[:, :, tf.newaxis]
    else:
        scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32)
    if mask is not None:
        scores += tf.where(mask, 0.0, MASKED)[:, tf.newaxis]
    if once:
        shares = tf.exp(scores - tf.reduce_max(scores, -1, keepdims=True))
        weights = shares / tf.reduce_sum(shares, -1, keepdims=True)
        read = tf.reduce_sum(weights[:, :, 0, :, tf.newaxis] * tf.cast(value, tf.float32), 2, keepdims=True)
        return tf.cast(read, value.dtype), weights
    weights = tf.nn.softmax(scores)
    return tf.matmul(tf.cast(weights, value.dtype), value), weights
