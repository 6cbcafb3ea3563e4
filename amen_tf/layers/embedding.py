"""Embeddings of items and of moveline events, from transformed ids to `[..., d]` vectors."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from amen_tf.features import AGE, BEHAVIOR, ITEM_ID, PAD_ID, SCENE


class NormalBelowZeros(keras.initializers.Initializer):
    """Normal noise, but zero in the first rows.

    The first rows of a table stand for padding and for values never seen in training. Noise there would be read as
    if it meant something; a zero leaves an unseen item to its category and features.

    Args:
      rows: number of zero rows.
      std: standard deviation of the others.
      seed: of the noise.
    """

    def __init__(self, rows: int, std: float, seed: int):
        self.rows, self.std, self.seed = rows, std, seed

    def __call__(self, shape, dtype=None, **kwargs):
        noise = keras.initializers.RandomNormal(stddev=self.std, seed=self.seed)(shape, dtype=dtype)
        return noise * tf.cast(tf.range(shape[0]) >= self.rows, noise.dtype)[:, tf.newaxis]

    def get_config(self):
        return {"rows": self.rows, "std": self.std, "seed": self.seed}


class IdEmbedding(keras.layers.Layer):
    """A lookup table whose id 0 (padding, absent) gives the zero vector.

    Args:
      size: number of ids, id 0 included.
      dim: width d of the vectors.
      std: standard deviation of the normal initialiser.
      seed: seed of the initialiser; the same seed gives the same table.
      unseen: number of ids after 0 that stand for values never seen in training; they start at zero.
    """

    def __init__(self, size: int, dim: int, std: float, seed: int, unseen: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.size, self.dim, self.std, self.seed, self.unseen = size, dim, std, seed, unseen

    def build(self, input_shape):
        initializer = NormalBelowZeros(1 + self.unseen, self.std, self.seed)
        self.table = self.add_weight(name="table", shape=(self.size, self.dim), initializer=initializer)
        super().build(input_shape)

    def call(self, ids, masked: bool = False):
        """ids `[...]` int64 -> `[..., d]` float32; `masked`: the caller sets to zero what belongs to id 0."""
        vectors = tf.gather(self.table, ids)
        return vectors if masked else vectors * tf.cast(ids != PAD_ID, vectors.dtype)[..., tf.newaxis]

    def get_config(self):
        config = {"size": self.size, "dim": self.dim, "std": self.std, "seed": self.seed, "unseen": self.unseen}
        return {**super().get_config(), **config}


def rows_of(table: IdEmbedding, columns: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Columns of ids of one shape `[...]` -> their rows `[..., d]`, with one look into the table."""
    if len(columns) == 1:
        return [table(columns[0])]
    return tf.unstack(table(tf.stack(columns)), len(columns))


class ItemEmbedding(keras.layers.Layer):
    """e: an item as the sum of the embeddings of its id, its category and its declared features.

    Of a feature with several values the embeddings of all of them are added.

    Args:
      sizes: number of ids of each item field, in the contract's order, e.g. `{"item_id": 1000, "category_id": 40}`.
      dim: width d.
      std: standard deviation of the initialiser.
      seed: seed of the first table; the others count on from it.
      unseen: table -> see `IdEmbedding`; 0 for tables that are not in it.
      meanings: field -> the name of its table; fields that are not in it have a table of their own. The values of one
        feature share a table.
      id_std: standard deviation for `item_id`, where most ids are seen a few times only and keep the noise that they
        start with; None takes `std`.
      hidden: how often `item_id` is left out in training (DropoutNet, Volkovs et al. 2017): the model learns what an
        item's category and features say, which is all that it has for new items, and cannot know users by their items.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        dim: int,
        std: float,
        seed: int,
        unseen: Mapping[str, int] | None = None,
        id_std: float | None = None,
        hidden: float = 0.0,
        meanings: Mapping[str, str] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.meanings = {field: field for field in sizes} | dict(meanings or {})
        self.sizes, self.dim, self.std, self.seed, self.unseen = dict(sizes), dim, std, seed, dict(unseen or {})
        self.id_std, self.hidden = std if id_std is None else id_std, hidden
        rows = {self.meanings[field]: size for field, size in sizes.items()}
        self.tables = {
            name: IdEmbedding(
                size, dim, self.id_std if name == ITEM_ID else std, seed + i, self.unseen.get(name, 0), name=name
            )
            for i, (name, size) in enumerate(rows.items())
        }

        # Of ones, so that an id that is there is what it is in serving, neither hidden nor scaled up.
        self.drop = keras.layers.Dropout(hidden, seed=seed + 900, dtype=tf.float32)

    def call(self, ids: Mapping[str, tf.Tensor], training=None):
        """ids: field -> `[...]` int64, all of one shape -> `[..., d]` float32."""
        vectors = self.parts(ids)
        if training and self.hidden:
            there = self.drop(tf.ones_like(ids[ITEM_ID], tf.float32), training=True) > 0
            vectors[ITEM_ID] *= tf.cast(there, vectors[ITEM_ID].dtype)[..., tf.newaxis]
        return tf.add_n(list(vectors.values()))

    def parts(self, ids: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The terms of the sum: field -> ids `[...]` -> field -> `[..., d]` float32."""
        found = {}
        for name, table in self.tables.items():
            fields = [field for field in self.sizes if self.meanings[field] == name]
            found.update(zip(fields, rows_of(table, [ids[field] for field in fields]), strict=True))
        return {field: found[field] for field in self.sizes}

    def get_config(self):
        config = {"sizes": self.sizes, "dim": self.dim, "std": self.std, "seed": self.seed, "unseen": self.unseen}
        more = {"id_std": self.id_std, "hidden": self.hidden, "meanings": self.meanings}
        return {**super().get_config(), **config, **more}


class EventEmbedding(keras.layers.Layer):
    """A moveline event: its item plus scene, behaviour, age and position counted from the newest event.

    Events sit at the right end of `[B, L]`, so position L-1 is always the newest; a position embedding by index
    means the same for movelines of every length.

    Args:
      items: the item embedding to share; its table is this layer's too.
      scenes, behaviors, ages: number of ids of each.
      length: L.
      seed: seed of the first table.
    """

    def __init__(
        self, items: ItemEmbedding, scenes: int, behaviors: int, ages: int, length: int, std: float, seed: int, **kwargs
    ):
        super().__init__(**kwargs)
        self.items = items
        self.scene = IdEmbedding(scenes, items.dim, std, seed, name=SCENE)
        self.behavior = IdEmbedding(behaviors, items.dim, std, seed + 1, name=BEHAVIOR)
        self.age = IdEmbedding(ages, items.dim, std, seed + 2, name=AGE)
        self.length, self.std, self.seed = length, std, seed

    def build(self, input_shape):
        self.position = self.add_weight(
            name="position",
            shape=(self.length, self.items.dim),
            initializer=keras.initializers.RandomNormal(stddev=self.std, seed=self.seed + 3),
        )
        super().build(input_shape)

    def call(self, events: Mapping[str, tf.Tensor], training=None, items: tf.Tensor | None = None):
        """events: field -> `[B, L]` int64 -> `[B, L, d]` float32, zero at padding; `items`: their items' vectors."""
        if items is None:
            items = self.items({field: events[field] for field in self.items.sizes}, training=training)
        # A real event has all three, so its mask is theirs.
        vectors = items + self.scene(events[SCENE], masked=True) + self.behavior(events[BEHAVIOR], masked=True)
        vectors += self.age(events[AGE], masked=True) + self.position
        return vectors * tf.cast(event_mask(events), vectors.dtype)[..., tf.newaxis]


def event_mask(events: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """`[B, L]` bool. Every real event has a behaviour, though not every event has an item."""
    return events[BEHAVIOR] != PAD_ID


def shared_id(targets: tf.Tensor, events: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """Which events, `[B, N, L]` bool, have a target's id.

    Args:
      targets: ids `[B, N]`.
      events: ids `[B, L]` of the same field.
      counted: `[B, L]` bool, which events may have one at all.
    """
    return (targets[:, :, tf.newaxis] == events[:, tf.newaxis, :]) & counted[:, tf.newaxis, :]


def same_events(targets: Mapping[str, tf.Tensor], events: Mapping[str, tf.Tensor], fields: Sequence[str]) -> tf.Tensor:
    """Which real events share an id with a target, `[B, fields * N, L]` bool, one field after the other.

    Args:
      targets: field -> ids `[B, N]`.
      events: field -> ids `[B, L]`, their behaviours among them.
      fields: at least one.
    """
    mask = event_mask(events)
    return tf.concat([shared_id(targets[f], events[f], mask & (events[f] != PAD_ID)) for f in fields], 1)


def side_by_side(features: tf.Tensor, fields: Sequence[str]) -> tf.Tensor:
    """What was made of `same_events`: `[B, fields * N, k]` -> `[B, N, fields * k]`."""
    return tf.concat(tf.split(features, len(fields), 1), -1)


def concat_fields(parts: Sequence[Mapping[str, tf.Tensor]], axis: int) -> dict[str, tf.Tensor]:
    """Joins several field -> ids mappings with equal fields along `axis`."""
    return {field: tf.concat([part[field] for part in parts], axis) for field in parts[0]}
