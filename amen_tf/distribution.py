"""Training on several devices: which strategy, and what has to be summed or gathered over its replicas."""

import json
import os
import pathlib
import tempfile

import tensorflow as tf


class ClusterError(ValueError):
    """`TF_CONFIG` does not say what the cluster is."""


def choose_strategy() -> tf.distribute.Strategy:
    """The strategy for what this process finds: `TF_CONFIG` means several workers, several GPUs mean all of them.

    Batch sizes, learning rates and steps of the settings are those of the global batch, whatever the strategy.

    Raises:
      ClusterError: `TF_CONFIG` is set and is not JSON with a `cluster` and a `task`.
    """
    text = os.environ.get("TF_CONFIG", "")
    if text:
        try:
            content = json.loads(text)
            workers = content["cluster"].get("worker", []) + content["cluster"].get("chief", [])
            content["task"]["type"], content["task"]["index"]
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise ClusterError(
                'TF_CONFIG: expected {"cluster": {"worker": ["host:port", ...]}, '
                f'"task": {{"type": "worker", "index": 0}}}}, got {text!r}. Unset it to train on this machine alone.'
            ) from e
        if len(workers) > 1:
            return tf.distribute.MultiWorkerMirroredStrategy()
    devices = tf.config.list_logical_devices("GPU")
    if len(devices) > 1:
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one of its cluster that writes what others read."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    has_chief = "chief" in resolver.cluster_spec().as_dict()
    return resolver.task_type == "chief" or (resolver.task_type == "worker" and resolver.task_id == 0 and not has_chief)


def output_folder(folder: str | pathlib.Path, strategy: tf.distribute.Strategy) -> pathlib.Path:
    """`folder` for the chief; for other workers a folder of their own, which nobody reads.

    Saving runs collective operations, so all workers must save; only the chief's files count.
    """
    return pathlib.Path(folder) if is_chief(strategy) else pathlib.Path(tempfile.mkdtemp(prefix="amen-worker-"))


def for_replicas(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Tells TensorFlow how to deal out global batches: each worker takes its part of every batch, not of the files."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)


def sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """The sum of `value` over the replicas of a training step; `value` itself on one device."""
    context = _several()
    return value if context is None else context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def gather_replicas(value: tf.Tensor) -> tf.Tensor:
    """`[B, ...]` of each replica -> `[sum of B, ...]`, the same on all; gradients flow back to whose rows they are.

    A sum of blocks that are zero but for the replica's own rows: TensorFlow's `all_gather` fails inside a training step
    of several workers (2.16).
    """
    context = _several()
    if context is None:
        return value
    replicas, place = context.num_replicas_in_sync, context.replica_id_in_sync_group
    own = tf.shape(value)[0]
    counts = sum_over_replicas(tf.one_hot(place, replicas, dtype=tf.int32) * own)
    before = tf.reduce_sum(tf.where(tf.range(replicas) < place, counts, 0))
    after = tf.reduce_sum(counts) - before - own
    rest = [[0, 0]] * (value.shape.rank - 1)
    return sum_over_replicas(tf.pad(value, [[before, after], *rest]))


def _several() -> tf.distribute.ReplicaContext | None:
    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None
