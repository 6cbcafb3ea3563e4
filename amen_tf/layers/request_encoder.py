"""From transformed features to vectors: events, targets, and what describes candidate and request beside the item."""

from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from amen_tf.features import CANDIDATE, MOVELINE, SCENE
from amen_tf.layers.embedding import EventEmbedding, IdEmbedding, ItemEmbedding, rows_of
from amen_tf.spec import ModelSpec

# Width of the embeddings of features that are not part of an item.
SIDE_DIM = 8


def with_prefix(features: Mapping[str, tf.Tensor], prefix: str, fields: tuple[str, ...]) -> dict[str, tf.Tensor]:
    """The columns `prefix + field`, keyed by field."""
    return {field: features[prefix + field] for field in fields}


class InterestEncoder(keras.layers.Layer):
    """Item and event embeddings, the part that Θ_base, G_φ and F_θ have in common and initialise one another from.

    Args:
      spec: features, sizes and shapes.
      hidden: how often an item's id is left out in training, see `ItemEmbedding`.
    """

    def __init__(self, spec: ModelSpec, hidden: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        std, seed = spec.shape.embedding_std, spec.seed
        self.contract = spec.contract
        meanings = {field: spec.contract.meaning_of(field) for field in spec.item_sizes}
        self.items = ItemEmbedding(
            spec.item_sizes,
            spec.shape.dim,
            std,
            seed + 1000,
            {meaning: spec.unseen_ids(meaning) for meaning in meanings.values()},
            spec.shape.item_std,
            hidden,
            meanings,
            name="items",
        )
        self.events = EventEmbedding(
            self.items, length=spec.shape.moveline_length, std=std, seed=seed + 1100, name="events", **spec.event_sizes
        )

    def moveline(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """field -> `[B, L]` ids of the moveline."""
        return with_prefix(features, MOVELINE, self.contract.moveline_fields)

    def candidates(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """field -> `[B, N]` ids of the candidate items."""
        return with_prefix(features, CANDIDATE, self.contract.item_fields)

    def call(self, features, training=None, items: tf.Tensor | None = None):
        """features -> events `[B, L, d]` float32; `items` `[B, L, d]`: their items' vectors, if they are there."""
        return self.events(self.moveline(features), training=training, items=items)


class SideEmbedding(keras.layers.Layer):
    """Embeds features that belong to the request (scene, user, context) or to a candidate (position, price).

    Of a feature with several values the embeddings of all of them are added.

    Args:
      sizes: feature -> number of ids.
      std: standard deviation of the initialiser.
      seed: seed of the first table.
      columns: feature -> its columns; features that are not in it have one column of their name.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        std: float,
        seed: int,
        columns: Mapping[str, tuple[str, ...]] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.sizes = dict(sizes)
        self.columns = {name: (name,) for name in sizes} | {name: tuple(of) for name, of in (columns or {}).items()}
        self.tables = {
            name: IdEmbedding(size, SIDE_DIM, std, seed + i, name=name) for i, (name, size) in enumerate(sizes.items())
        }

    @classmethod
    def of_request(cls, spec: ModelSpec, **kwargs) -> "SideEmbedding":
        """For scene, user and context features: columns `[B]`."""
        owned = spec.contract.owned_by("user", "context")
        sizes = {SCENE: spec.sizes[SCENE]} | {f.name: spec.sizes[f.name] for f in owned}
        columns = {f.name: f.fields for f in owned}
        return cls(sizes, spec.shape.embedding_std, spec.seed + 1200, columns, **kwargs)

    @classmethod
    def of_candidate(cls, spec: ModelSpec, **kwargs) -> "SideEmbedding":
        """For declared candidate features: columns `[B, N]`."""
        owned = spec.contract.owned_by("candidate")
        sizes = {CANDIDATE + f.name: spec.sizes[f.name] for f in owned}
        columns = {CANDIDATE + f.name: tuple(CANDIDATE + field for field in f.fields) for f in owned}
        return cls(sizes, spec.shape.embedding_std, spec.seed + 1300, columns, **kwargs)

    def call(self, features, like):
        """Columns `[...]` -> `[..., 8 * features]` float32; `like` `[..., any]` gives the shape when there are none."""
        if not self.tables:
            return like[..., :0]
        rows = (rows_of(table, [features[c] for c in self.columns[name]]) for name, table in self.tables.items())
        return tf.concat([tf.add_n(of_feature) for of_feature in rows], -1)
