"""Edits of models.config as text: what changes, what stays, which layouts are edited."""

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.rollout.config_text import add_version, drop_versions, set_label
from serving.rollout.errors import RolloutError
from tests.serving.rollout.conftest import CONFIG

INLINE = (
    'model_config_list: { config: { name: "m", base_path: "/m"; '
    'version_labels: { key: "stable", value: 1 } '
    "model_version_policy: { specific: { versions: 1, versions: 2 } } } }"
)
# Braces, quotes and hashes where they mean nothing.
MISLEADING = """model_config_list { # { "
  config { name: 'm' base_path: "/a#b}\\"{" # }
    model_version_policy { specific { } }
  } }"""


def read(text):
    """(versions, labels) of the model m."""
    message = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    [entry] = [entry for entry in message.model_config_list.config if entry.name == "m"]
    return list(entry.model_version_policy.specific.versions), dict(entry.version_labels)


def changed_lines(before, after):
    return [line for line in after.splitlines() if line not in before.splitlines()]


def test_a_label_moves_in_its_own_model_and_nothing_else_changes():
    text = set_label(CONFIG, "m", "stable", 2)
    assert changed_lines(CONFIG, text) == ['    version_labels { key: "stable" value: 2 }']
    assert read(text) == ([1, 2], {"stable": 2, "canary": 2})
    assert 'key: "stable" value: 3' in text


def test_a_new_label_stands_below_the_others():
    text = set_label(CONFIG, "m", "previous", 1)
    assert text.replace('    version_labels { key: "previous" value: 1 }\n', "") == CONFIG
    assert read(text)[1] == {"stable": 1, "canary": 2, "previous": 1}


def test_a_version_comes_on_a_line_of_its_own_and_goes_with_its_comment():
    text = add_version(CONFIG, "m", 1718000000)
    assert text.replace("        versions: 1718000000\n", "") == CONFIG
    assert drop_versions(text, "m", [1718000000]) == CONFIG
    less = drop_versions(CONFIG, "m", [1])
    assert less == CONFIG.replace("        versions: 1  # the first\n", "")
    assert read(less)[0] == [2]


@pytest.mark.parametrize("text", [INLINE, MISLEADING], ids=["inline", "misleading"])
def test_other_layouts(text):
    versions, labels = read(text)
    assert read(add_version(text, "m", 7)) == ([*versions, 7], labels)
    assert read(set_label(text, "m", "canary", 7)) == (versions, {**labels, "canary": 7})
    assert read(drop_versions(text, "m", versions[:1])) == (versions[1:], labels)
    assert read(drop_versions(text, "m", versions)) == ([], labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (INLINE.replace("versions: 1, versions: 2", "versions: [1, 2]"), r"Line 1: .*got '\['.*write them out"),
        (INLINE.replace("{ versions: 1, versions: 2 }", "< versions: 1 >"), "Line 1: .*got '<'"),
        (INLINE.replace("specific", "latest").replace("versions: 1, versions: 2", ""), "specific"),
        (INLINE.replace('"m"', '"n"'), "one `config.*found 0"),
    ],
)
def test_a_layout_that_is_not_edited_is_refused(text, message):
    with pytest.raises(RolloutError, match=message):
        add_version(text, "m", 5)
