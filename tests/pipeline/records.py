"""Events as tf.Examples in TFRecord files."""

import tensorflow as tf


def example(**values) -> bytes:
    """A serialized tf.Example; values are single or in lists, text, integers or floats."""
    made = tf.train.Example()
    for name, value in values.items():
        feature, value = made.features.feature[name], value if isinstance(value, list) else [value]
        if value and isinstance(value[0], (str, bytes)):
            feature.bytes_list.value.extend(v.encode() if isinstance(v, str) else v for v in value)
        elif value:
            (feature.int64_list if isinstance(value[0], int) else feature.float_list).value.extend(value)
    return made.SerializeToString()


def write_tfrecord(path, records):
    """Writes serialized records, gzipped where the name says so."""
    with tf.io.TFRecordWriter(str(path), "GZIP" if str(path).endswith(".gz") else "") as writer:
        for record in records:
            writer.write(record)
