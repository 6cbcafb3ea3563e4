"""The files of serving/production, read once for all tests of them."""

import json
import pathlib
import re

import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

PRODUCTION = pathlib.Path(__file__).parents[3] / "serving" / "production"
KUBERNETES = {path.stem: yaml.safe_load(path.read_text()) for path in (PRODUCTION / "kubernetes").glob("*.yaml")}
KUSTOMIZATION = yaml.safe_load((PRODUCTION / "kustomization.yaml").read_text())
COMPONENTS = {
    path.parent.name: yaml.safe_load(path.read_text())
    for path in (PRODUCTION / "components").glob("*/kustomization.yaml")
}
POD = KUBERNETES["deployment"]["spec"]["template"]
[CONTAINER] = POD["spec"]["containers"]
DASHBOARD = json.loads((PRODUCTION / "grafana" / "dashboard.json").read_text())
RULES = yaml.safe_load((PRODUCTION / "prometheus" / "rules.yml").read_text())
DOCKERFILE = (PRODUCTION / "Dockerfile").read_text()


def flags(arguments):
    """`--name=value` arguments as a dictionary; each flag is given once."""
    found = [re.fullmatch(r"--(\w+)=(\S+)", argument).groups() for argument in arguments]
    assert len(dict(found)) == len(found)
    return dict(found)


def models_config():
    """The one entry of models.config."""
    text = (PRODUCTION / "config" / "models.config").read_text()
    [entry] = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    return entry
