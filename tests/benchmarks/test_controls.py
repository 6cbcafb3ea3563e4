"""The controls' verdict by hand, and the worlds that they compare."""

import pytest

from amen_tf.config import Settings
from benchmarks.controls import CONTROLS, judge, world


def test_interval_by_hand():
    # Mean 0.02, deviation 0.01, error 0.01 / sqrt(3); t(0.975, 2) = 4.3027.
    found = judge([0.01, 0.02, 0.03], expected=True)
    assert found.mean == pytest.approx(0.02)
    assert found.low == pytest.approx(0.02 - 4.3027 * 0.01 / 3**0.5, abs=1e-6)
    assert found.high == pytest.approx(0.02 + 4.3027 * 0.01 / 3**0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("gains", "there", "vanished"),
    [
        ([0.02, 0.021, 0.019], True, False),
        ([0.0002, 0.00021, 0.00019], True, False),
        ([0.0003, -0.0003, 0.0], False, True),
        ([-0.02, -0.021, -0.019], False, True),
        # Wide: neither is shown.
        ([0.01, -0.01, 0.0], False, False),
        ([0.01, 0.001], False, False),
    ],
)
def test_a_gain_is_there_where_its_interval_lies_above_zero(gains, there, vanished):
    assert judge(gains, expected=True).as_expected == there
    assert judge(gains, expected=False).as_expected == vanished


def test_one_seed_says_nothing():
    with pytest.raises(ValueError, match="at least two seeds, got 1"):
        judge([0.1], expected=True)


def test_worlds_differ_in_lead_and_chain_alone():
    settings = Settings.from_preset("demo")
    made = [world(settings, control) for control in CONTROLS]
    assert [(m.data.simulate.lead, m.data.simulate.chain) for m in made] == [(0, 0), (1, 1)]
    assert [c.gains for c in CONTROLS] == [False, True] and len({m.name for m in made}) == 2
    same = {"lead": settings.data.simulate.lead, "chain": settings.data.simulate.chain}
    for one in made:
        simulate = one.data.simulate.model_copy(update=same)
        assert simulate == settings.data.simulate
        assert one.model_copy(update={"name": settings.name, "data": settings.data}) == settings
