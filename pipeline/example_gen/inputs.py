"""Where the log lies and by which rules it is read, as TFX's execution properties carry them.

In: a log's path, folder or glob, and `MovelineRules`. Out: protos for the component; and back again for the executor
and the driver.
"""

import glob
import json
import os
from typing import Any

from google.protobuf import struct_pb2
from tfx.proto import example_gen_pb2
from tfx.types import standard_component_specs
from tfx.utils import proto_utils

from pipeline.example_gen.rules import MovelineRules


def split_log(log: str) -> tuple[str, str]:
    """A path, folder or glob as TFX's pair of a base folder and a pattern below it.

    Whether it is a file or a folder is looked up when the stage runs: the pipeline may be built elsewhere.
    """
    scheme, cut, path = log.rpartition("://")
    if not cut:
        path = os.path.abspath(log)
    base, pattern = os.path.split(path.rstrip("/"))
    while glob.has_magic(base) or "{" in base:
        base, last = os.path.split(base)
        pattern = os.path.join(last, pattern)
    if not base:
        # A whole bucket: above it is nothing.
        base, pattern = pattern, ""
    return f"{scheme}{cut}{base}", pattern


def pack(
    rules: MovelineRules, code_fingerprint: str, spans: str = "", store: str | None = None
) -> example_gen_pb2.CustomConfig:
    """Rules and code as the component's `custom_config`, and of a log in spans the pattern and the store's folder.

    JSON text, because a Struct turns integers into floats.
    """
    content = struct_pb2.Struct()
    content["spans"] = spans
    content["store"] = store or ""
    content["rules"] = json.dumps(rules.to_dict(), sort_keys=True)
    content["code_fingerprint"] = code_fingerprint
    config = example_gen_pb2.CustomConfig()
    config.custom_config.Pack(content)
    return config


def rules_of(exec_properties: dict[str, Any]) -> MovelineRules:
    """The rules that `pack` put into the component."""
    return MovelineRules.from_dict(json.loads(_packed(exec_properties)["rules"]))


def code_of(exec_properties: dict[str, Any]) -> str:
    """The fingerprint of the code."""
    return _packed(exec_properties)["code_fingerprint"]


def store_of(exec_properties: dict[str, Any]) -> str:
    """The folder in which pieces of a log in spans are kept; "" for one that goes with the run."""
    return _packed(exec_properties)["store"]


def _packed(exec_properties: dict[str, Any]) -> struct_pb2.Struct:
    config = example_gen_pb2.CustomConfig()
    proto_utils.json_to_proto(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY], config)
    content = struct_pb2.Struct()
    config.custom_config.Unpack(content)
    return content


def log_of(exec_properties: dict[str, Any]) -> str:
    """The log's path, folder, glob, or pattern of spans."""
    if spans := _packed(exec_properties)["spans"]:
        return spans
    config = example_gen_pb2.Input()
    proto_utils.json_to_proto(exec_properties[standard_component_specs.INPUT_CONFIG_KEY], config)
    return os.path.join(exec_properties[standard_component_specs.INPUT_BASE_KEY], config.splits[0].pattern).rstrip("/")
