"""When the folder of a version is whole."""

import shutil

import pytest

from serving.rollout.errors import RolloutError
from serving.rollout.folders import faults, refuse_unless_whole


def test_a_whole_folder(base):
    assert faults(base, 1) == []
    (base / "1").rename(base / "0001")
    assert faults(base, 1) == [], "leading zeros do not count"


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("saved_model.pb", "no saved_model.pb"),
        ("variables/variables.index", "no variables/variables.index"),
        ("variables/variables.data-00000-of-00001", "0 of 1 files"),
    ],
)
def test_a_file_that_is_missing(base, file, fault):
    (base / "2" / file).unlink()
    assert fault in faults(base, 2)[0]
    with pytest.raises(RolloutError, match=f"Version 2 is not whole: .*{fault}.*Nothing was changed"):
        refuse_unless_whole(base, 2)


def test_an_empty_graph_a_missing_shard_and_no_folder(base):
    (base / "1" / "saved_model.pb").write_bytes(b"")
    assert "an empty one" in faults(base, 1)[0]
    data = base / "2" / "variables" / "variables.data-00000-of-00001"
    data.rename(data.with_name("variables.data-00000-of-00002"))
    assert "1 of 2 files" in faults(base, 2)[0]
    shutil.rmtree(base / "3")
    assert faults(base, 3) == [f"no folder '{base}/3'"]


def test_a_base_folder_that_this_machine_does_not_see(tmp_path):
    with pytest.raises(RolloutError, match="not on this machine.*--folder"):
        faults(tmp_path / "models", 1)
