"""Random batches of transformed features, for tests of layers and models, and ways to change them."""

import dataclasses

import numpy as np
import tensorflow as tf

from amen_tf.config import ModelSettings
from amen_tf.features import (
    AGE,
    AGE_BUCKETS,
    BEHAVIOR,
    CANDIDATE,
    CANDIDATE_MASK,
    DIFF_CLICKED,
    DIFF_UNCLICKED,
    FUTURE,
    ITEM_ID,
    LABEL,
    MOVELINE,
    MOVELINE_LENGTH,
    PAD_ID,
    SCENE,
    USER_KEY,
    Feature,
    FeatureContract,
    is_of_candidates,
)
from amen_tf.models.negatives import Catalogue
from amen_tf.spec import ModelSpec
from amen_tf.windows import RequestTable

DECLARED = (
    Feature("brand", "item", "categorical"),
    Feature("position", "candidate", "categorical"),
    Feature("price", "candidate", "numeric"),
    Feature("device", "context", "categorical"),
    Feature("tags", "item", "multi_valued", values=2),
    Feature("likes", "user", "multi_valued", values=3),
)
SIZES = {
    "item_id": 50,
    "category_id": 9,
    "scene": 5,
    "behavior": 6,
    "brand": 7,
    "position": 6,
    "price": 17,
    "device": 4,
    "tags": 6,
    "likes": 5,
}


def spec(length: int = 7, flow: int = 3, dropout: float = 0.0, seed: int = 5, **shape) -> ModelSpec:
    """A small model: L=7, T=3, H=2, d=8."""
    shape = ModelSettings(
        moveline_length=length, flow_length=flow, heads=2, dim=8, hidden_units=(16, 8), dropout=dropout, **shape
    )
    return ModelSpec(FeatureContract(length, flow, DECLARED), dict(SIZES), shape, seed=seed)


def batch(spec: ModelSpec, rows: int = 6, candidates: int = 4, seed: int = 0) -> dict[str, tf.Tensor]:
    """Random features; row 0 has an empty moveline, row 1 a full one, row 2 no future and no diff sample."""
    rng = np.random.default_rng(seed)
    contract, length, flow = spec.contract, spec.contract.moveline_length, spec.contract.flow_length
    lengths = rng.integers(0, length + 1, rows)
    lengths[:2] = 0, length
    real = np.arange(length)[None, :] >= length - lengths[:, None]
    # Of a feature with several values only the first is always there.
    optional = {field: place > 0 for feature in contract.declared for place, field in enumerate(feature.fields)}

    def ids(field, *shape):
        size = AGE_BUCKETS + 1 if field == AGE else spec.size_of(field)
        return rng.integers(0 if optional.get(field) else 1, size, shape)

    features = {MOVELINE + f: ids(f, rows, length) * real for f in contract.moveline_fields}
    counts = rng.integers(1, candidates + 1, rows)
    mask = np.arange(candidates)[None, :] < counts[:, None]
    features |= {CANDIDATE + f: ids(f, rows, candidates) * mask for f in contract.candidate_fields}
    features |= {f: ids(f, rows) for f in (SCENE, *contract.request_fields)}
    future = np.arange(flow)[None, :] < rng.integers(1, flow + 1, rows)[:, None]
    future[2] = False
    features |= {FUTURE + f: ids(f, rows, flow) * future for f in contract.item_fields}
    for prefix in (DIFF_CLICKED, DIFF_UNCLICKED):
        present = np.arange(rows) != 2
        features |= {prefix + f: ids(f, rows) * present for f in contract.item_fields}
        features[prefix + MOVELINE_LENGTH] = rng.integers(0, lengths + 1)
    features[USER_KEY] = np.arange(rows)
    result = {name: tf.constant(value, tf.int64) for name, value in features.items()}
    result[LABEL] = tf.constant(rng.integers(0, 2, (rows, candidates)) * mask, tf.float32)
    result[CANDIDATE_MASK] = tf.constant(mask)
    return result


def catalogue(spec: ModelSpec, seed: int = 0) -> Catalogue:
    """Every item id once, with random other fields and frequencies."""
    rng = np.random.default_rng(seed)
    count = spec.sizes["item_id"] - 1
    fields = {f: rng.integers(1, spec.size_of(f), count).astype(np.int64) for f in spec.contract.item_fields}
    fields["item_id"] = np.arange(1, count + 1, dtype=np.int64)
    return Catalogue(fields, rng.dirichlet(np.ones(count + 1)).astype(np.float32))


def pick(features: dict[str, tf.Tensor], places: list[int]) -> dict[str, tf.Tensor]:
    """The same requests with the candidates at `places`, in that order."""
    return {n: tf.gather(c, places, axis=1) if is_of_candidates(n) else c for n, c in features.items()}


def rows(features: dict[str, tf.Tensor], numbers: list[int]) -> dict[str, tf.Tensor]:
    """Only the requests of these numbers."""
    return {name: tf.gather(column, numbers) for name, column in features.items()}


def garble(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Puts ids where a mask says that there is nothing; what says so (behaviour, candidate mask) stays."""
    event, candidate = features[MOVELINE + BEHAVIOR] != 0, features[CANDIDATE_MASK]
    result = dict(features)
    for name, column in features.items():
        if name.startswith(MOVELINE) and name != MOVELINE + BEHAVIOR:
            result[name] = tf.where(event, column, tf.ones_like(column))
        elif is_of_candidates(name) and name != CANDIDATE_MASK:
            result[name] = tf.where(candidate, column, tf.ones_like(column))
    return result


def without_history(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The same requests with empty movelines."""
    return {name: tf.zeros_like(column) if name.startswith(MOVELINE) else column for name, column in features.items()}


def feature_spec(spec: ModelSpec) -> dict:
    """How Transform's examples are parsed: candidates and label are lists of any length, all others of fixed shape."""
    contract = spec.contract
    lists = [CANDIDATE + field for field in contract.candidate_fields] + [LABEL]
    fixed = {MOVELINE + field: contract.moveline_length for field in contract.moveline_fields}
    fixed |= {FUTURE + field: contract.flow_length for field in contract.item_fields}
    single = [SCENE, USER_KEY, *contract.request_fields]
    for prefix in (DIFF_CLICKED, DIFF_UNCLICKED):
        single += [prefix + field for field in (*contract.item_fields, MOVELINE_LENGTH)]
    return (
        {name: tf.io.VarLenFeature(tf.int64) for name in lists}
        | {name: tf.io.FixedLenFeature((length,), tf.int64) for name, length in fixed.items()}
        | {name: tf.io.FixedLenFeature((), tf.int64) for name in single}
    )


def write_examples(path: str, features: dict[str, tf.Tensor]) -> None:
    """Writes requests as Transform does: gzipped TFRecords, candidates without their padding."""
    mask = features[CANDIDATE_MASK].numpy()
    columns = {name: column.numpy() for name, column in features.items() if name != CANDIDATE_MASK}
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for row in range(len(mask)):
            example = tf.train.Example()
            for name, column in columns.items():
                values = column[row][mask[row]] if is_of_candidates(name) else column[row]
                example.features.feature[name].int64_list.value.extend(np.ravel(values).astype(np.int64))
            writer.write(example.SerializeToString())


def reseeded(spec: ModelSpec, seed: int) -> ModelSpec:
    """The same model with other first weights."""
    return dataclasses.replace(spec, seed=seed)


def item_counts(spec: ModelSpec, window: RequestTable) -> np.ndarray:
    """`[ids]`, how often each item is a future item of the window, as Transform counts them."""
    counts = np.bincount(window.columns[FUTURE + ITEM_ID].ravel(), minlength=spec.sizes[ITEM_ID])
    counts[PAD_ID] = 0
    return counts
