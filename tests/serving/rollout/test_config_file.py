"""models.config on disk: atomic, compared before it is replaced, never worse than before."""

import os
import stat

import pytest

from serving.double.config import ModelConfigError
from serving.rollout import config_file
from serving.rollout.config_file import ConfigFile
from serving.rollout.errors import RolloutError


def test_a_step_is_written_and_shown(config):
    before = config.read_text()
    file = ConfigFile(config, "m")
    diff = file.put(add=3, labels={"canary": 3})
    assert [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")] == [
        "+        versions: 3",
        '-    version_labels { key: "canary" value: 2 }',
        '+    version_labels { key: "canary" value: 3 }',
    ]
    again = ConfigFile(config, "m")
    assert again.entry == file.entry
    assert (again.versions, again.labels) == ((1, 2, 3), {"stable": 1, "canary": 3})
    assert file.put(add=3, labels={"canary": 3}) == "", "there already"
    file.put(labels={"canary": 2})
    file.put(drop=file.unlabelled)
    assert config.read_text() == before


def test_a_dry_run_shows_and_writes_nothing(config):
    before = config.read_text()
    file = ConfigFile(config, "m", dry_run=True)
    assert "+        versions: 3" in file.put(add=3)
    # The next step is shown on top of it.
    assert "versions: 3" not in file.put(labels={"canary": 3})
    assert file.entry.labels["canary"] == 3
    assert config.read_text() == before and [path.name for path in config.parent.glob("*models*")] == ["models.config"]


def test_a_version_with_a_label_is_never_dropped(config):
    file, before = ConfigFile(config, "m"), config.read_text()
    with pytest.raises(RolloutError, match="never dropped.*canary: 2"):
        file.put(drop=[2])
    with pytest.raises(RolloutError, match="never dropped.*stable: 2"):
        file.put(drop=[2], labels={"stable": 2, "canary": 1})
    assert config.read_text() == before


def test_somebody_elses_edit_is_not_overwritten(config):
    file = ConfigFile(config, "m")
    file.put(add=3)
    config.write_text(config.read_text().replace("# the first", "# the first one"))
    theirs = config.read_text()
    with pytest.raises(RolloutError, match="changed by somebody else.*not written.*again"):
        file.put(labels={"canary": 3})
    assert config.read_text() == theirs
    assert [path.name for path in config.parent.iterdir() if path.is_file()] == ["models.config"]


def test_a_failed_write_leaves_the_file_as_it_was(config, monkeypatch):
    before = config.read_text()

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(config_file.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        ConfigFile(config, "m").put(add=3)
    assert config.read_text() == before
    assert [path.name for path in config.parent.iterdir() if path.is_file()] == ["models.config"]


def test_the_mode_and_a_link_stay(config, tmp_path):
    config.chmod(0o644)
    link = tmp_path / "elsewhere" / "models.config"
    link.parent.mkdir()
    link.symlink_to(config)
    ConfigFile(link, "m").put(add=3)
    assert link.is_symlink() and os.path.samefile(link, config)
    assert stat.S_IMODE(config.stat().st_mode) == 0o644
    assert ConfigFile(config, "m").versions == (1, 2, 3)


def test_an_edit_that_would_come_to_something_else_is_not_made(config, monkeypatch):
    before = config.read_text()
    monkeypatch.setattr(config_file.config_text, "add_version", lambda text, model, version: text + "\n# nothing\n")
    with pytest.raises(RolloutError, match="cannot be edited here; nothing was changed"):
        ConfigFile(config, "m").put(add=3)
    assert config.read_text() == before


def test_an_edit_that_would_touch_another_model_is_not_made(config, monkeypatch):
    before, add = config.read_text(), config_file.config_text.add_version

    def adds_to_both(text, model, version):
        return add(add(text, model, version), "other", version)

    monkeypatch.setattr(config_file.config_text, "add_version", adds_to_both)
    with pytest.raises(RolloutError, match="nothing was changed"):
        ConfigFile(config, "m").put(add=5)
    assert config.read_text() == before


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('name: "m"', 'name: "other"', ModelConfigError, "'other' is given more than once"),
        ('name: "m"', 'name: "n"', RolloutError, "no model 'm'; it has other, n"),
        ("specific {\n        versions: 1  # the first\n        versions: 2\n", "latest {", RolloutError, "'latest'"),
        ("model_config_list", "model_config", ModelConfigError, "line:column"),
    ],
)
def test_a_file_that_is_not_edited(config, old, new, error, message):
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(error, match=message):
        ConfigFile(config, "m")
