"""What base and CTR model are made of: everything that reaches the merge MLP, put together from its parts."""

from unittest import mock

import numpy as np
import tensorflow as tf

from amen_tf.features import DIVERSITY, FLOW, VELOCITY
from amen_tf.layers.embedding import event_mask

D, SIDE = 8, 8
# Touched, count and two recencies, each for item and category.
MATCH = 8
# A mean vector of the matched events for each of the two.
MATCHED = 16
# Largest and mean cosine in three windows of the newest events, and the mean over all.
SIMILAR = 7


def merge_inputs(model, features):
    """What the merge MLP is called with: candidates `[B, N, a]` and requests `[B, b]`."""
    with mock.patch.object(model.merge, "call", wraps=model.merge.call) as call:
        model(features)
    return call.call_args.args


def shared_parts(model, features):
    """The base's inputs, by its own layers."""
    moveline, candidates = model.encoder.moveline(features), model.encoder.candidates(features)
    targets = model.encoder.items(candidates)
    h_user = model.attention(targets, model.encoder(features), event_mask(moveline))
    match, side = model.match(candidates, moveline), model.candidate_side(features, targets)
    matched = model.matched(candidates, moveline)
    return [targets, h_user, targets * h_user, match, side, matched], [model.request_side(features, targets)]


def close(left, right):
    np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-6)


def test_merge_reads_target_interest_their_product_matches_and_sides(base, features):
    candidate, request = merge_inputs(base, features)
    per_candidate, per_request = shared_parts(base, features)
    close(candidate, tf.concat(per_candidate, -1))
    close(request, tf.concat(per_request, -1))
    # Two candidate features, position and price; scene, one context feature and one of the user.
    assert candidate.shape[-1] == 3 * D + MATCH + 2 * SIDE + MATCHED and request.shape[-1] == 3 * SIDE


def test_ctr_model_reads_aligned_flow_diversity_and_velocity_behind_the_bases_inputs(ctr, features):
    # z = [a_flow, h_user, mean S_div, v_t0, e_t0, ...]. Behind, so that the base's kernels fit in front. What the model
    # reads of similar events comes last.
    candidate, request = merge_inputs(ctr, features)
    candidate = candidate[..., :-SIMILAR]
    per_candidate, per_request = shared_parts(ctr, features)
    flow = ctr.flow(features)
    aligned = ctr.alignment(ctr.generator.candidate_vectors(features), flow[FLOW])
    close(candidate, tf.concat([*per_candidate, aligned], -1))
    diversity = tf.reduce_mean(flow[DIVERSITY], -1)[:, tf.newaxis]
    # The last number says that there is a flow.
    close(request, tf.concat([*per_request, diversity, flow[VELOCITY][:, 0], tf.ones_like(diversity)], -1))


def test_ctr_model_with_similarities_reads_cosines_behind_all_else(spec, ctr_with_similarity, features):
    ctr = ctr_with_similarity
    plain, vectors = merge_inputs(ctr, features)[0].numpy(), ctr.generator.candidate_vectors(features).numpy()
    steps = spec.shape.flow_length
    states = ctr.flow(features)[FLOW].numpy()
    close(plain[..., -steps - SIMILAR : -SIMILAR], vectors @ states.transpose(0, 2, 1))
    # The first of the last seven: the largest cosine with the newest three events of the target's category.
    items, moveline = ctr.encoder.candidates(features), ctr.encoder.moveline(features)
    _, ours, theirs = (vectors.numpy() for vectors in ctr.generator.of_items(features))
    same = items["category_id"].numpy()[:, :, None] == moveline["category_id"].numpy()[:, None]
    same &= moveline["item_id"].numpy()[:, None] != 0
    close(plain[..., -SIMILAR], (ours @ theirs.transpose(0, 2, 1) * same)[:, :, -3:].max(-1))
    assert same[:, :, -3:].any() and (plain[..., -SIMILAR] != 0).any()


def test_a_request_that_was_given_no_flow_reads_no_similarity_either(ctr, features):
    flow = {name: tf.zeros_like(value) for name, value in ctr.flow(features).items()}
    without, _ = merge_inputs(ctr, {**features, **flow})
    assert (merge_inputs(ctr, features)[0].numpy()[..., -SIMILAR:] != 0).any()
    np.testing.assert_array_equal(without[..., -SIMILAR:], 0.0)


def test_ctr_model_without_alignment_reads_the_mean_of_the_flow(ctr_without_alignment, features):
    candidate, _ = merge_inputs(ctr_without_alignment, features)
    mean = tf.reduce_mean(ctr_without_alignment.flow(features)[FLOW], 1)
    close(candidate[..., -D - SIMILAR : -SIMILAR], np.repeat(mean[:, tf.newaxis], candidate.shape[1], 1))


def test_ctr_model_without_flow_reads_what_the_base_reads(ctr_without_flow, features):
    candidate, request = merge_inputs(ctr_without_flow, features)
    per_candidate, per_request = shared_parts(ctr_without_flow, features)
    close(candidate, tf.concat(per_candidate, -1))
    close(request, tf.concat(per_request, -1))
