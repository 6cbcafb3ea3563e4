"""Rows of Table 2 on a small log in memory: what is shared, what is kept, and that rows are what they say."""

import numpy as np
import pytest

from amen_tf import metrics
from amen_tf.ablations import ABLATIONS, ablated
from benchmarks import rows as module
from benchmarks.rows import ROWS, TITLES, Workshop, flat_labels, flat_users, is_row, row_title


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("table2")


@pytest.fixture(scope="module")
def trained(prepared, folder):
    workshop = Workshop(prepared, folder, lambda progress: None)
    return workshop, {row: workshop.train(row, 1) for row in ("base", "amen", "no_tsp", "no_nif")}


def test_every_row_has_a_title_and_every_ablation_is_a_row():
    assert set(TITLES) == set(ROWS) and set(ABLATIONS) < set(ROWS)


def test_ablations_can_be_joined(prepared):
    joined = ablated(prepared.settings, "no_nif+no_tsp")
    assert not joined.ctr.use_flow and joined.ctr.tsp_weight == 0.0
    assert is_row("no_nif+no_tsp") and is_row("din") and not is_row("no_nif+din") and not is_row("no_flow")
    assert row_title("no_nif+no_tsp") == "w/o Next Interest Flow, TSP" and row_title("din") == "DIN"


def test_ablations_change_one_part_and_nothing_else(prepared):
    for ablation, changes in ABLATIONS.items():
        before, after = (s.model_dump() for s in (prepared.settings, ablated(prepared.settings, ablation)))
        differing = {
            (s, k) for s in before if isinstance(before[s], dict) for k in before[s] if before[s][k] != after[s][k]
        }
        assert differing == {(section, key) for section, keys in changes.items() for key in keys}
    with pytest.raises(ValueError, match="expected an ablation of no_nif"):
        ablated(prepared.settings, "no_flow")


def test_figures_are_those_of_the_kept_scores(prepared, trained):
    label, user = flat_labels(prepared.test), flat_users(prepared.test)
    for result in trained[1].values():
        assert result.scores.shape == label.shape == user.shape
        assert result.figures == pytest.approx(metrics.summary(label, result.scores, user), nan_ok=True)
        assert result.parameters > 1000
    assert trained[1]["base"].frozen_parameters == trained[1]["no_nif"].frozen_parameters == 0
    assert trained[1]["amen"].frozen_parameters > 1000
    assert "hr@10_step_0" in trained[1]["amen"].generator and not trained[1]["no_nif"].generator


def test_rows_share_the_base_and_the_generator(trained, folder):
    # One Θ_base for all; AMEN and w/o TSP read one generator.
    parts = sorted(path.name.rsplit("-", 1)[0] for path in (folder / "parts").iterdir())
    assert parts == ["generator-1", "stage1_base-1"]
    workshop = trained[0]
    assert workshop.generator("amen", 1) == workshop.generator("no_tsp", 1)
    own = [workshop._hash("generator", 1, ("generator",), workshop.settings(row)) for row in ("amen", "no_velocity")]
    assert own[0] != own[1]


def test_what_was_trained_is_kept(prepared, trained, folder, monkeypatch):
    monkeypatch.setattr(Workshop, "fit", None)
    again = Workshop(prepared, folder, lambda progress: None)
    for row, result in trained[1].items():
        kept = again.result(row, 1)
        np.testing.assert_array_equal(kept.scores, result.scores)
        assert kept.figures == pytest.approx(result.figures, nan_ok=True)
    assert again.result("amen", 2) is None


def test_other_settings_code_or_data_are_another_result(prepared, trained, folder, monkeypatch):
    settings = prepared.settings.model_copy(
        update={"ctr": prepared.settings.ctr.model_copy(update={"tsp_weight": 0.7})}
    )
    other = Workshop(prepared._replace(settings=settings), folder, lambda progress: None)
    assert other.result("amen", 1) is None and other.result("base", 1) is not None
    # Baselines learn from the windows in the order that the CTR model does.
    settings = prepared.settings.model_copy(
        update={"ctr": prepared.settings.ctr.model_copy(update={"window": "train"})}
    )
    assert Workshop(prepared._replace(settings=settings), folder, lambda progress: None).result("base", 1) is None
    assert Workshop(prepared._replace(test=prepared.eval), folder, lambda p: None).result("base", 1) is None
    monkeypatch.setattr(module, "fingerprint", lambda name: "edited")
    assert Workshop(prepared, folder, lambda progress: None).result("base", 1) is None


@pytest.mark.parametrize(("window", "goes_on"), [("stage2", True), ("train", False)])
def test_with_one_window_all_rows_go_on_with_it_or_none_does(window, goes_on, prepared, tmp_path, monkeypatch):
    ctr = prepared.settings.ctr.model_copy(update={"window": window})
    one = prepared._replace(
        stage1=prepared.train, stage2=prepared.train, settings=prepared.settings.model_copy(update={"ctr": ctr})
    )
    started_from = []

    def spy(name, spec, settings, windows, session, earlier=None):
        started_from.append(earlier is not None)
        return fit_ranker(name, spec, settings, windows, session, earlier)

    fit_ranker = module.fit_ranker
    monkeypatch.setattr(module, "fit_ranker", spy)
    workshop = Workshop(one, tmp_path, lambda progress: None)
    workshop.fit("base", 1)
    assert started_from[-1] == goes_on
    assert (workshop.fit("no_nif", 1)[0].copied is not None) == goes_on


def test_what_another_process_has_finished_first_is_taken(prepared, tmp_path):
    one, other = (Workshop(prepared, tmp_path, lambda progress: None) for _ in range(2))
    with one._kept("parts", "x", 1, "key") as mine:
        (mine / "weights").write_text("mine")
        with other._kept("parts", "x", 1, "key") as theirs:
            (theirs / "weights").write_text("theirs")
    (kept,) = (tmp_path / "parts").iterdir()
    assert kept.name == "x-1-key" and (kept / "weights").read_text() == "theirs"


def test_a_killed_training_leaves_no_result(prepared, folder, tmp_path, monkeypatch):
    workshop = Workshop(prepared, tmp_path, lambda progress: None)

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        workshop.train("wide_and_deep", 1)
    assert workshop.result("wide_and_deep", 1) is None
    monkeypatch.undo()
    assert workshop.train("wide_and_deep", 1).row == "wide_and_deep"
    assert workshop.result("wide_and_deep", 1) is not None


def test_one_seed_is_one_model(prepared, trained, tmp_path):
    again = Workshop(prepared, tmp_path, lambda progress: None).train("no_nif", 1)
    np.testing.assert_array_equal(again.scores, trained[1]["no_nif"].scores)


def test_the_whole_window_at_a_time(prepared, tmp_path):
    settings = prepared.settings.model_copy(
        update={"ctr": prepared.settings.ctr.model_copy(update={"window": "train"})}
    )
    workshop = Workshop(prepared._replace(settings=settings), tmp_path, lambda progress: None)
    result = workshop.train("amen", 1)
    assert np.isfinite(result.scores).all()
    # Requests of the first window were given no flow.
    assert len(list((tmp_path / "flows").glob("absent-*.f4"))) == 1
