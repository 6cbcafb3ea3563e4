"""What the Trainers have in common."""

import types

import pytest

from amen_tf.config import GeneratorSettings
from amen_tf.initialization import InitializationError
from pipeline.trainers.common import Stage
from pipeline.trainers.earlier_model import EarlierModel


class Earlier(EarlierModel):
    """A model whose generator had two layers and this decoder."""

    def __init__(self, decoder="autoregressive"):
        super().__init__("nowhere")
        self.settings = {"generator": {"layers": 2, "decoder": decoder}}


@pytest.mark.parametrize(("earlier", "rate"), [(None, 0.02), (Earlier(), 0.005)])
def test_a_warm_start_has_its_share_of_the_learning_rate(earlier, rate):
    settings = {"generator": {"learning_rate": 0.02, "layers": 3}, "warm_start": {"learning_rate": 0.25}}
    stage = types.SimpleNamespace(config={"settings": settings}, earlier=earlier)
    found = Stage.trainer_settings(stage, GeneratorSettings, "generator")
    assert found == GeneratorSettings(learning_rate=rate, layers=3)


def test_no_stage_starts_warm_where_its_settings_give_weights_another_meaning():
    stage = types.SimpleNamespace(config={"settings": {"generator": {}}}, earlier=Earlier("parallel"))
    with pytest.raises(InitializationError, match=r"generator\.decoder parallel, got autoregressive"):
        Stage.trainer_settings(stage, GeneratorSettings, "generator")
