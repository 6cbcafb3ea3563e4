"""What the Trainers have in common."""

import types

import pytest

from amen_tf.config import GeneratorSettings
from pipeline.trainers.common import Stage


@pytest.mark.parametrize(("earlier", "rate"), [(None, 0.02), (object(), 0.005)])
def test_a_warm_start_has_its_share_of_the_learning_rate(earlier, rate):
    settings = {"generator": {"learning_rate": 0.02, "layers": 3}, "warm_start": {"learning_rate": 0.25}}
    stage = types.SimpleNamespace(config={"settings": settings}, earlier=earlier)
    found = Stage.trainer_settings(stage, GeneratorSettings, "generator")
    assert found == GeneratorSettings(learning_rate=rate, layers=3)
