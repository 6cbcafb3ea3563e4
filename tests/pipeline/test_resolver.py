"""Which models a run compares itself with and starts from, on artifacts as the metadata store would give them."""

import pytest
from tfx.components.evaluator import constants
from tfx.types import standard_artifacts

from pipeline.resolver import LastBlessedBefore, LastBlessedOfEarlierWindow
from pipeline.trainers.component import borders, label


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


# What a run starts warm from. Windows are named after the day of their test split; each day is 10 "seconds" long.


def split(day, **other):
    """Stage 1 ends five days before the test day, training one day before."""
    return {"stage1_end": 10 * day - 50, "train_end": 10 * day - 10, "eval_end": 10 * day} | other


def trained(number, stage="ctr", seed=1, **given):
    """A model with the labels that its Trainer gives it."""
    artifact = model(number)
    own = {"ctr": {"generator": {}, "ctr": {}}, "generator": {"generator": {}}}.get(stage, {})
    label(artifact, stage, {"seed": seed, "base": {"epochs": 2}, "split": split(**given), **own})
    return artifact


def start_of(run, models, blessings):
    """Ids of the model and of the baseline that the run starts from, None for nothing."""
    given = {"model": models, "model_blessing": blessings, "baseline": models}
    found = LastBlessedOfEarlierWindow(borders(run), "baseline").resolve_artifacts(None, given)
    assert found.keys() == given.keys() and all(len(artifacts) <= 1 for artifacts in found.values())
    assert [b.id - 1_000 for b in found["model_blessing"]] == [m.id for m in found["model"]]
    return tuple(found[key][0].id if found[key] else None for key in ("model", "baseline"))


def test_the_gate_compares_with_no_model_that_was_trained_later():
    # Day 20 is run again, with other settings, after day 21.
    twenty, twenty_one, again = trained(1, day=20), trained(2, day=21), trained(3, seed=2, day=20)
    given = {"candidate": [again], "model": [twenty, twenty_one, again]}
    given["model_blessing"] = [judged(1, True), judged(2, True)]

    def found():
        resolved = LastBlessedBefore().resolve_artifacts(None, given)
        return [m.id for m in resolved["model"]], [blessing.id for blessing in resolved["model_blessing"]]

    assert found() == ([1], [1_001])
    given["model"] = [twenty_one, again]
    assert found() == ([], [])
    # Of the same day, or of an earlier one, the newest as ever.
    given["candidate"] = [trained(3, day=21)]
    assert found() == ([2], [1_002])
    # Without labels nobody can tell.
    given["candidate"] = [model(3)]
    assert found() == ([2], [1_002])
    given["candidate"], given["model"] = [again], [model(1)]
    assert found() == ([1], [1_001])


# Three days, and what their runs left: the baseline, and the model that went to the gate.
THREE = [trained(n, stage, day=day) for n, stage, day in ((1, "baseline", 20), (2, "ctr", 20), (3, "ctr", 21))]
THREE += [trained(4, "baseline", day=21), trained(5, "base", day=21), trained(6, "ctr", day=22)]


@pytest.mark.parametrize("turn", [1, -1])
def test_a_run_starts_from_the_newest_window_before_its_own(turn):
    blessed = [judged(2, True), judged(3, True), judged(6, True)][::turn]
    models = THREE[::turn]
    assert start_of(split(23), models, blessed) == (6, None)
    # Its own result, or that of a later day, is none of them: repeated, it finds what it found the first time.
    assert start_of(split(22), models, blessed) == (3, 4)
    assert start_of(split(21), models, blessed) == (2, 1)
    assert start_of(split(20), models, blessed) == (None, None)


def test_what_was_not_blessed_is_no_start():
    assert start_of(split(23), THREE, [judged(2, True), judged(3, True), judged(6, False)]) == (3, 4)
    assert start_of(split(23), THREE, []) == (None, None)
    assert start_of(split(23), [], []) == (None, None)


def test_of_one_window_the_newest_counts_whenever_it_was_trained():
    models = [*THREE, trained(8, "ctr", day=21), trained(9, "baseline", day=21), trained(11, "ctr", day=20)]
    blessed = [judged(3, True), judged(8, True), judged(11, True)]
    assert start_of(split(23), models, blessed) == (8, 9)


def test_the_baseline_is_of_the_run_of_the_model():
    # After the blessed run one of other settings over the same window, which was refused.
    models = [trained(1, "baseline", day=22), trained(2, day=22)]
    models += [trained(3, "baseline", seed=2, day=22), trained(4, seed=2, day=22)]
    assert start_of(split(23), models, [judged(2, True), judged(4, False)]) == (2, 1)
    assert start_of(split(23), models, [judged(2, True), judged(4, True)]) == (4, 3)
    assert start_of(split(23), models[1:], [judged(2, True)]) == (2, None)


@pytest.mark.parametrize(
    "knows_too_much",
    [
        # Its generator has seen clicks of this run's stage 2.
        {"stage1_end": 181},
        {"stage1_end": None},
        # It has learned from what stops this run's training.
        {"train_end": 221},
        {"eval_end": 230},
    ],
)
def test_a_model_that_knows_what_this_run_is_judged_by_is_no_start(knows_too_much):
    run = split(23)
    assert run == {"stage1_end": 180, "train_end": 220, "eval_end": 230}
    latest = {"stage1_end": 180, "train_end": 220, "eval_end": 229}
    assert start_of(run, [trained(1, day=22, **latest)], [judged(1, True)]) == (1, None)
    assert start_of(run, [trained(1, day=22, **latest | knows_too_much)], [judged(1, True)]) == (None, None)


def test_one_window_ends_where_training_ends():
    run, same = split(23, stage1_end=None), split(22, stage1_end=None)
    assert start_of(run, [trained(1, day=22, **same)], [judged(1, True)]) == (1, None)
    assert start_of(run, [trained(1, day=22)], [judged(1, True)]) == (1, None)


def test_a_model_without_labels_is_no_start():
    assert start_of(split(23), [model(1)], [judged(1, True)]) == (None, None)
