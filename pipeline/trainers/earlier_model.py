"""The model of an earlier run that a Trainer starts warm from: its weights, what its ids stand for, its settings."""

import functools
import pathlib
from collections.abc import Mapping

import numpy as np
import yaml

from amen_tf.config import TrainerSettings
from amen_tf.initialization import START_AFRESH, InitializationError, load_weights
from amen_tf.spec import ModelSpec
from amen_tf.warm_start import Ids, expect_unchanged
from pipeline.trainers.extra import BASE_WEIGHTS, EXTRA, SETTINGS, SPEC, WEIGHTS


class EarlierModel:
    """A ranker's folder, as its Trainer wrote it.

    Args:
      folder: of the SavedModel.
    """

    def __init__(self, folder: str | pathlib.Path):
        self.folder = pathlib.Path(folder)

    @functools.cached_property
    def ids(self) -> Ids:
        """What its ids stand for. Of the Transform graph inside it a vocabulary is an asset of the meaning's name."""
        spec = ModelSpec.load(self._extra(SPEC))
        words = {meaning: self._vocabulary(meaning) for meaning in spec.in_vocabularies}
        for meaning, known in words.items():
            expected = spec.sizes[meaning] - 1 - spec.unseen
            if len(known) != expected:
                raise self._unusable(f"{expected} words in assets/{meaning}", str(len(known)))
        return Ids(spec, words)

    @functools.cached_property
    def settings(self) -> Mapping:
        """Those that it was trained with."""
        return yaml.safe_load(self._extra(SETTINGS).read_text(encoding="utf-8"))

    def expect_unchanged(self, section: str, settings: TrainerSettings) -> None:
        """Refuses to give its weights to a run with other `settings`; see `amen_tf.warm_start.DECISIVE`.

        Raises:
          InitializationError: they differ in what is decisive, or it was trained without such a section.
        """
        if section not in self.settings:
            raise self._unusable(f"a model with settings of {section}", ", ".join(self.settings))
        expect_unchanged(section, type(settings)(**self.settings[section]), settings)

    @property
    def ranker_file(self) -> str:
        """The file with the weights of a ranker: of a base or baseline its own, of a CTR model those of its base."""
        return BASE_WEIGHTS if "ctr" in self.settings else WEIGHTS

    def weights(self, file: str) -> dict[str, np.ndarray]:
        """Weights by name, from a file of its `assets.extra/`."""
        return load_weights(self._extra(file))

    def _vocabulary(self, meaning: str) -> list[bytes]:
        with open(self._file(f"assets/{meaning}"), "rb") as lines:
            return [line.rstrip(b"\n") for line in lines]

    def _extra(self, file: str) -> pathlib.Path:
        return self._file(f"{EXTRA}/{file}")

    def _file(self, path: str) -> pathlib.Path:
        if not (self.folder / path).is_file():
            raise self._unusable(path, "no such file")
        return self.folder / path

    def _unusable(self, expected: str, got: str) -> InitializationError:
        return InitializationError(
            f"The models cannot start warm from {self.folder}: expected {expected}, got {got}. Give a model that this "
            f"pipeline has trained, or start afresh: {START_AFRESH}."
        )
