"""Which versions are removed after a push, and which never are."""

import pytest

from pipeline import pruning
from pipeline.pruning import Pruned, prune

CONFIG = """model_config_list {{ config {{ name: "{name}" base_path: "/models/amen"
  model_version_policy {{ {policy} }}
  {labels} }} }}"""


@pytest.fixture
def base(tmp_path):
    """A push folder with the versions 1, ..., 6 and 10, and what is no version."""
    folder = tmp_path / "push" / "amen"
    for name in ("1", "2", "3", "4", "5", "6", "10", "tmp.7", "9.bak"):
        (folder / name).mkdir(parents=True)
        (folder / name / "saved_model.pb").write_text(name)
    (folder / "notes.txt").write_text("kept")
    return folder


@pytest.fixture
def config(tmp_path):
    """`config(policy, name, **labels)`: the path of a models.config."""

    def _config(policy="", name="amen", **labels):
        path = tmp_path / "models.config"
        named = " ".join(f'version_labels {{ key: "{label}" value: {at} }}' for label, at in labels.items())
        path.write_text(CONFIG.format(name=name, policy=policy, labels=named))
        return path

    return _config


def left(base):
    return sorted(int(path.name) for path in base.iterdir() if path.name.isdigit())


def test_the_newest_stay_by_number_not_by_name(base):
    assert prune(base, 3, None) == Pruned(["1", "2", "3", "4"], 3)
    assert left(base) == [5, 6, 10]
    assert {path.name for path in base.iterdir()} >= {"tmp.7", "9.bak", "notes.txt"}
    assert prune(base, 3, None) == Pruned([], 3)
    assert prune(base, 50, None) == Pruned([], 3)


def test_what_a_label_names_or_the_policy_lists_stays(base, config):
    path = config("specific { versions: 3 versions: 10 }", stable=3, previous=1, canary=10)
    assert prune(base, 2, path) == Pruned(["2", "4", "5"], 4)
    assert left(base) == [1, 3, 6, 10]


@pytest.mark.parametrize(
    ("policy", "stay"),
    [("", [6, 10]), ("latest { num_versions: 4 }", [4, 5, 6, 10]), ("all { }", [1, 2, 3, 4, 5, 6, 10])],
)
def test_what_another_policy_serves_stays(base, config, policy, stay):
    prune(base, 2, config(policy))
    assert left(base) == stay


def test_what_the_servers_need_is_not_known(base, config, tmp_path):
    broken = tmp_path / "broken.config"
    broken.write_text("model_config_list {")
    for path, message in (
        (tmp_path / "none.config", "cannot be read"),
        (broken, "line:column"),
        (config(name="other"), "no model 'amen'"),
    ):
        result = prune(base, 2, path)
        assert (result.removed, result.kept) == ([], 7) and message in result.problem
    assert left(base) == [1, 2, 3, 4, 5, 6, 10]


def test_a_removal_that_fails_half_way_leaves_no_half_version(base, monkeypatch):
    remove, removed = pruning.shutil.rmtree, []

    def fails_at_the_second(path):
        if removed:
            raise OSError("input/output error")
        removed.append(path)
        remove(path)

    monkeypatch.setattr(pruning.shutil, "rmtree", fails_at_the_second)
    result = prune(base, 4, None)
    assert result == Pruned(["1"], 5, "version 2 cannot be removed: input/output error")
    # Invisible to a server, and the next push removes it.
    assert left(base) == [3, 4, 5, 6, 10] and (base / "tmp.2").is_dir()
