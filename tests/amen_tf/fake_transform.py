"""A Transform graph without vocabularies, for tests of signatures: words become ids by hashing.

The contract is that of the real one: 0 = nothing, movelines on the right of `[B, L]`, the newest kept, candidates and
label as they come. What only training reads (futures, diff samples, users) is left out.
"""

import tensorflow as tf

from amen_tf.features import AGE, AGE_BUCKETS, BEHAVIOR, LABEL, MOVELINE, TIMESTAMP
from amen_tf.spec import ModelSpec


class FakeTransform(tf.Module):
    """Raw columns, sparse -> transformed columns.

    Args:
      spec: sizes and contract; every id stays below the size of its meaning.
    """

    def __init__(self, spec: ModelSpec):
        super().__init__()
        self._spec = spec
        kinds = {"string": tf.string, "int": tf.int64, "float": tf.float32}
        columns = {c.name: tf.SparseTensorSpec((None, None), kinds[c.kind]) for c in spec.contract.raw_columns}
        # Traced once for all signatures, as the real graph is.
        self.graph = tf.function(self._transform, input_signature=[columns], autograph=False)

    def __call__(self, raw):
        return self.graph(raw)

    def _transform(self, raw):
        contract, outputs = self._spec.contract, {}
        count, length = tf.shape(raw[TIMESTAMP], tf.int64)[0], contract.moveline_length
        events = raw[MOVELINE + BEHAVIOR].indices
        counts = tf.math.unsorted_segment_sum(tf.ones_like(events[:, 0]), events[:, 0], count)
        places = events[:, 1] + length - tf.gather(counts, events[:, 0])
        kept = places >= 0
        target = tf.boolean_mask(tf.stack([events[:, 0], places], 1), kept)

        def newest(values):
            dense = tf.scatter_nd(target, tf.boolean_mask(values, kept), tf.stack([count, length]))
            return tf.ensure_shape(dense, (None, length))

        def single(column):
            return tf.scatter_nd(column.indices[:, :1], column.values, count[tf.newaxis])

        for column in contract.candidate_columns:
            outputs |= self._fields(raw[column.name], column)
        for column in contract.request_columns[1:]:
            outputs |= {name: single(ids) for name, ids in self._fields(raw[column.name], column).items()}
        for column in contract.moveline_columns[:-1]:
            outputs |= {name: newest(ids.values) for name, ids in self._fields(raw[column.name], column).items()}
        hours = (single(raw[TIMESTAMP])[:, tf.newaxis] - newest(raw[MOVELINE + TIMESTAMP].values)) // 3600
        age = 1 + tf.clip_by_value(hours, 0, AGE_BUCKETS - 1)
        outputs[MOVELINE + AGE] = tf.where(outputs[MOVELINE + BEHAVIOR] > 0, age, 0)
        return {**outputs, LABEL: raw[LABEL]}

    def _fields(self, texts, column):
        """A raw column as ids by the name of the field, or of the fields of a multi-valued feature."""
        feature = next((f for f in self._spec.contract.declared if f.name == column.meaning), None)
        if feature is None or feature.kind != "multi_valued":
            return {column.name: tf.sparse.map_values(self._ids, texts, column)}
        parts = tf.strings.split(texts.values, "|").to_tensor("", shape=(None, feature.values))
        names = (column.name.removesuffix(feature.name) + field for field in feature.fields)
        return {
            name: tf.SparseTensor(texts.indices, self._ids(parts[:, place], column), texts.dense_shape)
            for place, name in enumerate(names)
        }

    def _ids(self, values, column):
        size = self._spec.sizes[column.meaning]
        if column.kind == "float":
            return 1 + tf.clip_by_value(tf.cast(values, tf.int64), 0, size - 2)
        return tf.where(values == "", tf.constant(0, tf.int64), 1 + tf.strings.to_hash_bucket_fast(values, size - 1))
