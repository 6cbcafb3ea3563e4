"""Push folders without a model in them, and models.config files as people write them."""

import pytest

CONFIG = """\
# Why things are so: kept through every edit.
model_config_list {
  config {
    name: "other"  # has labels of its own
    base_path: "/models/other"
    model_version_policy { specific { versions: 3 versions: 4 } }
    version_labels { key: "stable" value: 3 }
  }
  config {
    name: "m"
    base_path: "BASE"
    model_platform: "tensorflow"
    model_version_policy {
      specific {
        versions: 1  # the first
        versions: 2
      }
    }
    version_labels { key: "stable" value: 1 }
    version_labels { key: "canary" value: 2 }
  }
}
"""


def make_version(base, version):
    """A folder that has every file of a model, though not a model."""
    variables = base / str(version) / "variables"
    variables.mkdir(parents=True)
    (base / str(version) / "saved_model.pb").write_bytes(b"graph")
    (variables / "variables.index").write_bytes(b"index")
    (variables / "variables.data-00000-of-00001").write_bytes(b"data")


@pytest.fixture
def base(tmp_path):
    """A push folder with the versions 1, 2 and 3."""
    folder = tmp_path / "push" / "m"
    for version in (1, 2, 3):
        make_version(folder, version)
    return folder


@pytest.fixture
def config(tmp_path, base):
    """A models.config with the models `other` and `m`."""
    path = tmp_path / "models.config"
    path.write_text(CONFIG.replace("BASE", str(base)))
    return path
