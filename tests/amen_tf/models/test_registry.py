"""The rankers by name."""

import numpy as np
import pytest

from amen_tf.models.candidate_ranker import CandidateRanker
from amen_tf.models.registry import RANKERS, make_ranker


@pytest.mark.parametrize("name", RANKERS)
def test_every_ranker_is_made_of_a_spec_alone(name, spec, features):
    model = make_ranker(name, spec)
    assert isinstance(model, CandidateRanker) and model.name == name
    assert np.isfinite(model(features)).all()


def test_unknown_name_says_which_there_are():
    with pytest.raises(ValueError, match="expected one of wide_and_deep, din, base, got 'dien'"):
        make_ranker("dien", None)
