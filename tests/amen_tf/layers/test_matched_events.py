"""Matched events: the mean over the events with an equal id, by hand and against plain loops."""

import numpy as np
import tensorflow as tf

from amen_tf.layers.matched_events import MatchedEvents
from tests.amen_tf import batches
from tests.amen_tf.layers.harness import randomise


def test_by_hand():
    layer = MatchedEvents(("item_id",), behaviors=4, dim=1, std=0.1, seed=0)
    # Item 5 was touched twice: behaviour 1 at age 2 and behaviour 3 at age 1; item 9 never; item 0 is nothing.
    targets = {"item_id": tf.constant([[5, 9, 0]])}
    events = {
        "item_id": tf.constant([[0, 5, 7, 5]]),
        "behavior": tf.constant([[0, 1, 2, 3]]),
        "age": tf.constant([[0, 2, 2, 1]]),
    }
    layer(targets, events)
    layer.behavior.table.assign([[99.0], [1.0], [2.0], [3.0]])
    layer.age.table.assign(tf.reshape(tf.range(65, dtype=tf.float32) / 10, (65, 1)))
    np.testing.assert_allclose(layer(targets, events)[0, :, 0], [(1.2 + 3.1) / 2, 0, 0], rtol=1e-6)


def test_equals_plain_loops():
    spec = batches.spec()
    features = batches.batch(spec)
    fields = ("item_id", "category_id")
    layer = MatchedEvents(fields, spec.sizes["behavior"], 3, 0.3, seed=2)
    targets = {f: features[f"candidate_{f}"] for f in fields}
    events = {f: features[f"moveline_{f}"] for f in (*fields, "behavior", "age")}
    layer(targets, events)
    randomise(layer)
    result, matches = layer(targets, events).numpy(), 0
    behavior, age = layer.behavior.table.numpy(), layer.age.table.numpy()
    for b in range(6):
        for n in range(4):
            for place, field in enumerate(fields):
                target, found = int(targets[field][b, n]), []
                for j in range(7):
                    if target and int(events["behavior"][b, j]) and int(events[field][b, j]) == target:
                        found.append(behavior[int(events["behavior"][b, j])] + age[int(events["age"][b, j])])
                matches += len(found)
                expected = np.mean(found, 0) if found else np.zeros(3)
                np.testing.assert_allclose(result[b, n, 3 * place : 3 * place + 3], expected, rtol=1e-5, atol=1e-6)
    assert matches > 5
