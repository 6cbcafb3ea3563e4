"""The exported model: five signatures with the Transform graph inside, so that serving computes what was trained."""

import pathlib
from collections.abc import Callable, Iterable

import tensorflow as tf

from amen_tf.features import (
    BEHAVIOR,
    CANDIDATE,
    CANDIDATE_MASK,
    DIVERSITY,
    FLOW,
    ITEM_ID,
    MOVELINE,
    VELOCITY,
    FeatureContract,
    RawColumn,
)
from amen_tf.input import densify
from amen_tf.models.ranking import RankingModel

SERVING_DEFAULT, RANK = "serving_default", "rank"
RANK_WITH_FLOW, INTEREST_FLOW, TRANSFORM_FEATURES = "rank_with_flow", "interest_flow", "transform_features"
# What `interest_flow` gives and `rank_with_flow` takes.
FLOW_COLUMNS = (FLOW, DIVERSITY, VELOCITY)
PROBABILITY, CANDIDATE_WEIGHT = "probability", "candidate_weight"

# Of raw columns, by their kind.
DTYPES = {"string": tf.string, "int": tf.int64, "float": tf.float32}


def raw_feature_spec(contract: FeatureContract) -> dict[str, tf.io.VarLenFeature]:
    """How to parse a raw tf.Example: every column sparse, so that an absent one is empty and not an error."""
    return {column.name: tf.io.VarLenFeature(DTYPES[column.kind]) for column in contract.raw_columns}


class _Untracked:
    """Holds an object out of sight of TensorFlow's dependency tracking."""

    def __init__(self, held):
        self.held = held


class TransformGraph(tf.Module):
    """The Transform graph of a run as a function that can become part of another SavedModel.

    TFT's own `transform_features_layer` is a Keras layer, which Keras traces several times more when it is saved.

    Args:
      folder: `tft.TFTransformOutput(...).transform_savedmodel_dir`.
    """

    def __init__(self, folder: str | pathlib.Path):
        super().__init__()
        self.loaded = tf.saved_model.load(str(folder))

    def __call__(self, raw: dict[str, tf.SparseTensor]) -> dict[str, tf.Tensor | tf.SparseTensor]:
        """Every raw column, sparse -> the transformed columns."""
        return self.loaded.transform_fn(raw)


class ServingModel(tf.Module):
    """A ranking model together with its Transform graph, ready for `tf.saved_model.save`.

    All inputs of a signature share dimension 0 (B requests), so that TensorFlow Serving may batch them.

    Args:
      model: the trained model.
      contract: the run's features.
      transform: raw columns (sparse) -> transformed columns, as of `TFTransformOutput.transform_features_layer()`.
      width: N, the most candidates a request of the run has; outputs for tf.Examples have at least this width.
    """

    def __init__(self, model: RankingModel, contract: FeatureContract, transform: Callable, width: int):
        super().__init__()
        # The Keras model itself is kept out of what is saved: Keras would store a traced copy of every layer, which
        # made files 10 times larger and slow to load. The signatures need the variables and nothing else.
        self._model = _Untracked(model)
        self.weights = list(model.variables)
        self.frozen = getattr(model, "frozen_parts", [])
        self.transform = transform
        self._contract, self._width = contract, width

    @property
    def model(self) -> RankingModel:
        """The trained model."""
        return self._model.held

    def features_of_examples(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        """Serialized raw tf.Examples `[B]` -> transformed, dense features."""
        raw = tf.io.parse_example(serialized, raw_feature_spec(self._contract))
        return densify(self.transform(raw), self._width)

    def features_of_columns(self, columns: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Raw columns as a client sends them -> transformed, dense features; absent columns count as empty.

        A moveline event is real where its behaviour is not empty; a candidate where its item id is not empty. Columns
        of one list that differ in shape are an InvalidArgumentError.
        """
        contract = self._contract
        behavior = columns[MOVELINE + BEHAVIOR]
        rows = tf.shape(behavior, out_type=tf.int64)[0]
        # The columns of a list are aligned: where its values lie is worked out once.
        moveline = Filled.where(behavior != "")
        request = Filled.everywhere(tf.stack([rows, 1]))
        raw = {column.name: _empty(column, rows) for column in contract.raw_columns}
        for column in contract.request_columns:
            if column.name in columns:
                raw[column.name] = request.sparse(columns[column.name])
        aligned = _aligned(columns, contract.moveline_columns, MOVELINE + BEHAVIOR)
        for column in contract.moveline_columns:
            raw[column.name] = moveline.sparse(aligned[column.name])
        if CANDIDATE + ITEM_ID in columns:
            candidates = Filled.everywhere(tf.shape(columns[CANDIDATE + ITEM_ID], out_type=tf.int64))
            aligned = _aligned(columns, contract.candidate_columns, CANDIDATE + ITEM_ID)
            for column in contract.candidate_columns:
                raw[column.name] = candidates.sparse(aligned[column.name])
        return densify(self.transform(raw))

    def probabilities(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        """Eq. (8): ŷ `[B, N]` float32; 0 at padding."""
        probability = tf.sigmoid(self.model(features, training=False))
        return tf.where(features[CANDIDATE_MASK], probability, 0.0)

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """name -> concrete function; see the README of `serving/` for shapes and uses."""
        contract = self._contract
        # Two signatures share one graph of the model.
        probabilities = tf.function(self.probabilities, autograph=False)
        serialized = tf.TensorSpec((None,), tf.string, "examples")
        columns = {c.name: _spec(c) for c in contract.rank_columns}

        @tf.function(autograph=False)
        def serving_default(examples):
            return {PROBABILITY: probabilities(self.features_of_examples(examples))}

        @tf.function(autograph=False)
        def rank(columns):
            return {PROBABILITY: probabilities(self.features_of_columns(columns))}

        @tf.function(autograph=False)
        def rank_with_flow(columns):
            flow = {name: columns[name] for name in FLOW_COLUMNS}
            return {PROBABILITY: probabilities({**self.features_of_columns(columns), **flow})}

        @tf.function(autograph=False)
        def interest_flow(columns):
            flow = self.model.flow(self.features_of_columns(columns))
            return {name: flow[name] for name in FLOW_COLUMNS}

        @tf.function(autograph=False)
        def transform_features(examples):
            features = self.features_of_examples(examples)
            weight = tf.cast(features[CANDIDATE_MASK], tf.float32)
            return {**features, CANDIDATE_MASK: weight, CANDIDATE_WEIGHT: weight}

        found = {
            SERVING_DEFAULT: serving_default.get_concrete_function(serialized),
            RANK: rank.get_concrete_function(columns),
            TRANSFORM_FEATURES: transform_features.get_concrete_function(serialized),
        }
        if hasattr(self.model, "flow") and self.model.settings.use_flow:
            known = {c.name: _spec(c) for c in contract.flow_columns}
            found[INTEREST_FLOW] = interest_flow.get_concrete_function(known)
            length, dim = self.model.spec.shape.flow_length, self.model.spec.shape.dim
            shapes = {FLOW: (None, length, dim), DIVERSITY: (None, length), VELOCITY: (None, length, dim)}
            flow = {name: tf.TensorSpec(shape, tf.float32, name) for name, shape in shapes.items()}
            found[RANK_WITH_FLOW] = rank_with_flow.get_concrete_function({**columns, **flow})
        return found

    def export(self, path: str | pathlib.Path) -> None:
        """Writes the SavedModel."""
        # The functions must hang on the object that is saved, or their captured tables would not be.
        self.exported = self.signatures()
        tf.saved_model.save(self, str(path), signatures=self.exported)


def _spec(column: RawColumn) -> tf.TensorSpec:
    shape = (None,) if column.scalar else (None, None)
    return tf.TensorSpec(shape, DTYPES[column.kind], column.name)


def _aligned(columns: dict[str, tf.Tensor], listed: Iterable[RawColumn], like: str) -> dict[str, tf.Tensor]:
    """The listed columns, once it is certain that each has the shape of the column `like`, `[B, K]`."""
    found = {column.name: columns[column.name] for column in listed}
    shapes = tf.stack([tf.shape(values) for values in found.values()])
    expected = f"Expected the shape of {like} for each of {', '.join(found)}; got, in this order:"
    # The operation itself: `tf.debugging` puts a branch around it, which takes longer than it does.
    checked = tf.raw_ops.Assert(
        condition=tf.reduce_all(shapes == tf.shape(columns[like])), data=[expected, shapes], summarize=100
    )
    with tf.control_dependencies([checked]):
        return {name: tf.identity(values) for name, values in found.items()}


def _empty(column: RawColumn, rows: tf.Tensor) -> tf.SparseTensor:
    none = tf.zeros((0, 2), tf.int64)
    return tf.SparseTensor(none, tf.zeros((0,), DTYPES[column.kind]), tf.stack([rows, tf.constant(0, tf.int64)]))


class Filled:
    """Which places of a `[B, K]` (or `[B]`) are filled, and how their values make a sparse tensor without gaps.

    Args:
      indices: `[values, 2]` int64, where the values go.
      shape: `[2]` int64, of the sparse tensor.
      taken: `[values, 2]` int64, where the values come from; None takes all, in order.
    """

    def __init__(self, indices: tf.Tensor, shape: tf.Tensor, taken: tf.Tensor | None = None):
        self.indices, self.shape, self.taken = indices, shape, taken

    @classmethod
    def everywhere(cls, shape: tf.Tensor) -> "Filled":
        """`[2]` int64: every place, empty strings and zeros included."""
        return cls(tf.where(tf.ones(shape, tf.bool)), shape)

    @classmethod
    def where(cls, filled: tf.Tensor) -> "Filled":
        """`[B, K]` bool: the values of a row move up to its beginning."""
        taken = tf.where(filled)
        row = taken[:, 0]
        before = tf.math.cumsum(tf.math.count_nonzero(filled, 1), exclusive=True)
        place = tf.range(tf.shape(row, out_type=tf.int64)[0]) - tf.gather(before, row)
        return cls(tf.stack([row, place], 1), tf.shape(filled, out_type=tf.int64), taken)

    def sparse(self, values: tf.Tensor) -> tf.SparseTensor:
        """The filled places of a column."""
        kept = tf.reshape(values, [-1]) if self.taken is None else tf.gather_nd(values, self.taken)
        return tf.SparseTensor(self.indices, kept, self.shape)
