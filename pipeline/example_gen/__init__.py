"""Event log -> one tf.Example per request, with its moveline, candidates, future items and diff samples.

`moveline` and `coded` are the NumPy/Arrow core, without Beam; `executor` runs them on shards of users; `component` is
the pipeline stage.
"""
