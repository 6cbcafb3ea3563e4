"""The losses of the paper, one function per equation, pure in their tensors.

Shapes: B requests, N candidates, T flow states, H heads, d = H * d_head, C negatives. Masks: True = real. A row, state
or pair that is not real adds nothing; where nothing is real, a loss is 0 with finite gradients.

Units: Eq. (1), (9) and L_CE are in nats; similarities and Eq. (3) have none; velocities (Eq. 4) are in the unit of the
flow, whose states have length 1, and Eq. (5) is in that unit squared. Eq. (6) and (10) add them up as they are, each a
mean over the rows or pairs that it is defined for: a user with one future item counts in Eq. (1) and not in Eq. (5).
"""

import tensorflow as tf

from amen_tf.distribution import sum_over_replicas


def share(total: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """total / count, or 0 where nothing counts. Scalars.

    Where several replicas train together, each has a part of the batch: the count is that of the whole batch, so that
    the parts add up to the mean over the whole batch, as on one device.
    """
    return tf.math.divide_no_nan(total, sum_over_replicas(count))


def _mean_over_rows(per_state: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Sum over t, then the mean over rows that have at least one real state: `[B, T]` -> scalar."""
    rows = tf.reduce_sum(tf.cast(tf.reduce_any(mask, -1), per_state.dtype))
    return share(tf.reduce_sum(tf.where(mask, per_state, 0.0)), rows)


def info_nce(positive, negatives, negative_mask, mask):
    """Eq. (1): -Σ_t log exp(sim(f̂_t, e_t)) / Σ_{e_i in {e_t} ∪ N_t} exp(sim(f̂_t, e_i)).

    sim(u, v) = u·v / τ is applied by the caller, sampling correction included.

    Args:
      positive: `[B, T]` float32, sim(f̂_t, e_t).
      negatives: `[B, T, C]` float32, sim(f̂_t, e_i) for e_i in N_t.
      negative_mask: `[B, T, C]` bool; False takes a negative out of N_t (same user, same item).
      mask: `[B, T]` bool; False where the user has no t-th future item.

    Returns:
      scalar float32 in nats: the sum over t, averaged over the rows that have a future.
    """
    return _mean_over_rows(_info_nce_by_state(positive, negatives, negative_mask, mask), mask)


def info_nce_mean(positive, negatives, negative_mask, mask):
    """Eq. (1) without its sum over t: the mean over all real states. Arguments as of `info_nce`.

    For the next item at every event of the moveline, where a sum would let long movelines decide.

    Returns:
      scalar float32, nats a state.
    """
    by_state = _info_nce_by_state(positive, negatives, negative_mask, mask)
    return share(tf.reduce_sum(tf.where(mask, by_state, 0.0)), tf.reduce_sum(tf.cast(mask, by_state.dtype)))


def _info_nce_by_state(positive, negatives, negative_mask, mask):
    negatives = tf.where(negative_mask, negatives, float("-inf"))
    logits = tf.concat([positive[..., tf.newaxis], negatives], -1)
    # A masked state's scores may be anything; zeros keep its (unused) gradient finite.
    logits = tf.where(mask[..., tf.newaxis], logits, 0.0)
    return tf.reduce_logsumexp(logits, -1) - logits[..., 0]


def head_similarity(heads):
    """The inner term of Eq. (3): the mean over head pairs i < j of cos(h_i, h_j)^2.

    Reading: sim() is the cosine here (in Eq. 1 it is a scaled dot product), so that the result and
    S_div(t) = 1 - result lie in [0, 1] whatever the scale of the heads.

    Args:
      heads: `[B, T, H, d_head]` float32.

    Returns:
      `[B, T]` float32 in [0, 1].
    """
    count = heads.shape[-2]
    unit = tf.nn.l2_normalize(heads, -1, epsilon=1e-12)
    cosines = tf.reduce_sum(unit[..., :, tf.newaxis, :] * unit[..., tf.newaxis, :, :], -1)
    squares = tf.square(cosines)
    diagonal = tf.reduce_sum(tf.linalg.diag_part(squares), -1)
    return (tf.reduce_sum(squares, (-2, -1)) - diagonal) / (count * (count - 1))


def diversity_loss(heads, mask):
    """Eq. (3): L_div = Σ_t (1 / C(H, 2)) Σ_{i<j} sim(h_i, h_j)^2, averaged over rows.

    Args:
      heads: `[B, T, H, d_head]` float32, the heads of each flow state.
      mask: `[B, T]` bool.

    Returns:
      scalar float32 in [0, T]; cosines squared have no unit.
    """
    return _mean_over_rows(head_similarity(heads), mask)


def velocity(flow, previous):
    """Eq. (4): v_t = f̂_t - f̂_{t-1} for t = t0 ... t0+T-1.

    Reading: the paper uses v_t0 as a feature, which needs f̂_{t0-1}; that is the state at the last moveline event.

    Args:
      flow: `[B, T, d]` float32, f̂_t0 ... f̂_{t0+T-1}.
      previous: `[B, d]` float32, f̂_{t0-1}.

    Returns:
      `[B, T, d]` float32, change a step; between states of unit length it is at most 2 long.
    """
    return flow - tf.concat([previous[:, tf.newaxis, :], flow[:, :-1, :]], 1)


def velocity_loss(flow, previous, mask):
    """Eq. (5): L_vel = Σ_{t=t0+1}^{t0+T-1} ||(f̂_t - f̂_{t-1}) - (f̂_{t-1} - f̂_{t-2})||^2, averaged over rows.

    Args:
      flow: `[B, T, d]` float32.
      previous: `[B, d]` float32, f̂_{t0-1}.
      mask: `[B, T]` bool; the term of t counts where step t is real.

    Returns:
      scalar float32, squared change a step, averaged over the rows with at least two real steps.
    """
    v = velocity(flow, previous)
    return _mean_over_rows(tf.reduce_sum(tf.square(v[:, 1:] - v[:, :-1]), -1), mask[:, 1:])


def stage1_loss(generative, diversity, velocity_, diversity_weight: float, velocity_weight: float):
    """Eq. (6): L_stage1 = L_G + α L_div + β L_vel, all float32 scalars; α and β bear the units of their terms."""
    return generative + diversity_weight * diversity + velocity_weight * velocity_


def cross_entropy(labels, logits, mask):
    """L_CE: binary cross-entropy of σ(logits), the mean over real candidates.

    Args:
      labels: `[B, N]` float32, 1 = clicked.
      logits: `[B, N]` float32, ŷ_main + c_tsp of Eq. (8).
      mask: `[B, N]` bool.

    Returns:
      scalar float32, nats an impression.
    """
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    real = tf.cast(mask, losses.dtype)
    return share(tf.reduce_sum(tf.where(mask, losses, 0.0)), tf.reduce_sum(real))


def tsp_loss(score, diff_score, diff_label, pair_mask, balanced: bool = False):
    """Eq. (9): L_tsp = -(1/|D|) Σ_D log σ(I(y_t1) (c_t1 - c_t0)) over the pairs D that exist.

    I(y_t1) is +1 where the diff sample was clicked and -1 where it was not, so the clicked one of each pair is
    pushed above the other.

    Deviation, with `balanced`: D holds as many pairs of one sign as of the other, by weight. Every impression has its
    pair, and where one in ten is clicked, nine of ten pairs ask for no more than "earlier is better": c then tells the
    time and not the interest.

    Args:
      score: c_t0 `[B, N]` float32.
      diff_score: c_t1 `[B, N]` float32, of the diff sample with the opposite label.
      diff_label: y_t1 `[B, N]` float32, 1 = clicked.
      pair_mask: `[B, N]` bool, True where candidate and diff sample are both real.
      balanced: whether both signs weigh the same.

    Returns:
      scalar float32, nats a pair: the mean over all pairs, as the equation has it; with `balanced` the mean over the
      pairs of one sign, averaged over the signs that have pairs.
    """
    sign = 2.0 * diff_label - 1.0
    losses = tf.where(pair_mask, -tf.math.log_sigmoid(sign * (diff_score - score)), 0.0)
    if not balanced:
        return share(tf.reduce_sum(losses), tf.reduce_sum(tf.cast(pair_mask, losses.dtype)))
    of_sign = tf.stack([pair_mask & (sign > 0), pair_mask & (sign < 0)])
    pairs = sum_over_replicas(tf.reduce_sum(tf.cast(of_sign, losses.dtype), (1, 2)))
    means = tf.math.divide_no_nan(tf.reduce_sum(tf.where(of_sign, losses, 0.0), (1, 2)), pairs)
    return tf.math.divide_no_nan(tf.reduce_sum(means), tf.reduce_sum(tf.cast(pairs > 0, losses.dtype)))


def stage2_loss(cross_entropy_, tsp, tsp_weight: float):
    """Eq. (10): L_stage2 = L_CE + λ L_tsp, float32 scalars in nats."""
    return cross_entropy_ + tsp_weight * tsp
