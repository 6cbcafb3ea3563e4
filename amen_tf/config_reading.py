"""Reading settings: presets, merging, overrides, and errors that a person can act on."""

import difflib
import importlib.resources
from typing import Any

import pydantic
import yaml

PRESETS = ("smoke", "demo", "paper")


class SettingsError(ValueError):
    """A settings file that cannot be used; the message lists every fault with its key."""


def preset_content(name: str) -> dict:
    """The preset's YAML as a mapping."""
    text = importlib.resources.files("amen_tf").joinpath("presets", f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def merged(under: dict, over: dict) -> dict:
    """`over` wins key by key; lists are replaced as a whole."""
    result = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def over_preset(name: str, content: dict) -> dict:
    """`content` over the preset `name`.

    A preset's `data` section describes its simulated log; it is left out where `content` names a log of its own, which
    need not have the simulator's columns.
    """
    preset, data = preset_content(name), content.get("data")
    if isinstance(data, dict) and data.get("log") is not None:
        preset.pop("data", None)
    return merged(preset, content)


def from_override(text: str) -> dict:
    """`section.key=value`, the value read as YAML -> a nested mapping."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise SettingsError(f"--set {text}: expected section.key=value, for instance model.dim=64.")
    try:
        content: Any = yaml.safe_load(value)
    except yaml.YAMLError as e:
        raise SettingsError(f"--set {text}: expected section.key=value with a YAML value: {e}") from e
    for part in reversed(key.strip().split(".")):
        content = {part: content}
    return content


def explain(root: type[pydantic.BaseModel], fault: Any) -> str:
    """One of pydantic's errors as `key: what is wrong`; an unknown key gets the nearest valid name."""
    key = ".".join(str(part) for part in fault["loc"]) or "settings"
    if fault["type"] == "extra_forbidden":
        section = _section_at(root, fault["loc"][:-1])
        names = list(section.model_fields) if section else []
        near = difflib.get_close_matches(str(fault["loc"][-1]), names, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"valid here: {', '.join(names)}"
        return f"{key}: unknown key; {hint}"
    got = "" if fault["type"] in ("missing", "value_error") else f", got {fault.get('input')!r}"
    return f"{key}: {fault['msg']}{got}"


def _section_at(root: type[pydantic.BaseModel], loc: tuple) -> type[pydantic.BaseModel] | None:
    """The section class that a location in an error points into, looking through Optional and tuple types."""
    section: Any = root
    for part in loc:
        if isinstance(part, int):
            continue
        field = section.model_fields.get(part)
        if field is None:
            return None
        section = _section_of(field.annotation)
        if section is None:
            return None
    return section


def _section_of(annotation: Any) -> type[pydantic.BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _section_of(inner)
        if found is not None:
            return found
    return None
