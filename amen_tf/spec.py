"""What a model is built from: the feature contract, the number of ids of every meaning, shapes and seed."""

import dataclasses
import json
import pathlib

from amen_tf.config import ModelSettings
from amen_tf.features import AGE_BUCKETS, BEHAVIOR, SCENE, FeatureContract


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Everything that decides a model's variables; stored beside every exported model as JSON.

    Attributes:
      contract: the run's features.
      sizes: meaning -> number of ids, id 0 included: item_id, category_id, scene, behavior, declared features.
      shape: L, T, H, d and the widths.
      seed: of all initialisers and dropout.
      unseen: number of ids after 0 that stand for values never seen in training, in every meaning with a vocabulary.
      hashed: meanings without a vocabulary.
    """

    contract: FeatureContract
    sizes: dict[str, int]
    shape: ModelSettings
    seed: int
    unseen: int = 0
    hashed: tuple[str, ...] = ()

    @property
    def in_vocabularies(self) -> tuple[str, ...]:
        """The meanings that have a vocabulary."""
        return tuple(meaning for meaning in self.contract.categorical_meanings if meaning not in self.hashed)

    def unseen_ids(self, meaning: str) -> int:
        """Number of ids after 0 that stand for values of this meaning that were never seen in training."""
        return self.unseen if meaning in self.in_vocabularies else 0

    def size_of(self, field: str) -> int:
        """Number of ids that a transformed field may hold, id 0 included."""
        return self.sizes[self.contract.meaning_of(field)]

    @property
    def item_sizes(self) -> dict[str, int]:
        """Number of ids of each item field, in the contract's order."""
        return {field: self.size_of(field) for field in self.contract.item_fields}

    @property
    def event_sizes(self) -> dict[str, int]:
        """Number of ids of what an event has beside its item."""
        return {"scenes": self.sizes[SCENE], "behaviors": self.sizes[BEHAVIOR], "ages": AGE_BUCKETS + 1}

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the spec as JSON."""
        content = {
            "contract": dataclasses.asdict(self.contract),
            "sizes": self.sizes,
            "shape": self.shape.model_dump(mode="json"),
            "seed": self.seed,
            "unseen": self.unseen,
            "hashed": self.hashed,
        }
        pathlib.Path(path).write_text(json.dumps(content, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | pathlib.Path) -> "ModelSpec":
        """Reads a spec that `save` wrote."""
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        contract = FeatureContract.from_dict(content["contract"])
        shape, hashed = ModelSettings(**content["shape"]), tuple(content["hashed"])
        return cls(contract, content["sizes"], shape, content["seed"], content["unseen"], hashed)
