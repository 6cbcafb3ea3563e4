"""Which model the gate compares a candidate with, on artifacts as the metadata store would give them."""

import pytest
from tfx.components.evaluator import constants
from tfx.types import standard_artifacts

from pipeline.resolver import LastBlessedBefore


def model(number):
    artifact = standard_artifacts.Model()
    artifact.id = number
    return artifact


def judged(model_id, blessed, number=None):
    """The gate's word on a model."""
    artifact = standard_artifacts.ModelBlessing()
    artifact.id = number or 1_000 + model_id
    artifact.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model_id)
    artifact.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(blessed))
    return artifact


def unjudged(number):
    """What an Evaluator without bounds leaves: a blessing artifact that says nothing."""
    artifact = standard_artifacts.ModelBlessing()
    artifact.id = number
    return artifact


def resolve(candidate, models, blessings):
    """Ids of the chosen model and its blessing, or None."""
    given = {
        "candidate": [model(candidate)] if candidate else [],
        "model": [model(number) for number in models],
        "model_blessing": blessings,
    }
    found = LastBlessedBefore().resolve_artifacts(None, given)
    assert found["candidate"] == given["candidate"]
    assert len(found["model"]) == len(found["model_blessing"]) <= 1
    return (found["model"][0].id, found["model_blessing"][0].id) if found["model"] else None


@pytest.mark.parametrize(
    ("blessings", "chosen"),
    [
        ([], None),
        ([unjudged(50)], None),
        ([judged(3, False), judged(5, False)], None),
        # A repeated run: the candidate has its blessing already and must not be compared with itself.
        ([judged(9, True)], None),
        ([judged(5, True), judged(9, True)], (5, 1_005)),
        ([judged(3, True), judged(5, True)], (5, 1_005)),
        ([judged(5, True), judged(3, True)], (5, 1_005)),
        ([judged(3, True), judged(5, False)], (3, 1_003)),
        # Back to earlier settings: what was blessed since then is no predecessor.
        ([judged(3, True), judged(12, True)], (3, 1_003)),
    ],
)
def test_the_newest_blessed_model_before_the_candidate(blessings, chosen):
    # Models 4 and 6 are other trainers', which are never judged against bounds.
    assert resolve(9, [3, 4, 5, 6, 9, 12], blessings) == chosen
    assert resolve(9, [12, 9, 6, 5, 4, 3], blessings) == chosen


def test_a_blessing_whose_model_is_gone():
    assert resolve(9, [9], [judged(5, True)]) is None


def test_a_model_judged_twice_counts_as_blessed_only_by_the_blessing_it_got():
    # First refused, then, with a lower bound, blessed.
    assert resolve(9, [5, 9], [judged(5, False, 40), judged(5, True, 41)]) == (5, 41)
    assert resolve(9, [5, 9], [judged(5, True, 41), judged(5, False, 40)]) == (5, 41)


def test_no_candidate():
    assert resolve(None, [3], [judged(3, True)]) is None
