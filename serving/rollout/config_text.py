"""Edits of a models.config as text: comments and layout stay, so that the diff shows what changes and nothing else.

In: a ModelServerConfig in text form that `serving.double.config` has read without an error. Out: the same text with a
label moved, a version added or versions taken out. What an edit came to is checked by its caller, who reads it again.
"""

import dataclasses
import re
from collections.abc import Iterable

from serving.rollout.errors import RolloutError

_TOKEN = re.compile(r"""\#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[{}<>\[\]:,;]|[^\s{}<>\[\]:,;"'#]+""")

_SEPARATOR = re.compile(r"\s*[,;]")


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a text-form message.

    Attributes:
        name: of the field.
        start, end: where it stands in the text, from its name to its value's end.
        value: token of a scalar; None for a message.
        value_start: where the value begins; of a message, behind its opening brace.
        children: fields of a message.
    """

    name: str
    start: int
    end: int
    value: str | None
    value_start: int
    children: tuple["Field", ...] = ()

    def all(self, name: str) -> list["Field"]:
        """Its fields of that name."""
        return [child for child in self.children if child.name == name]

    def scalar(self, name: str) -> str | None:
        """The token of the scalar field of that name, without quotes; None where there is none."""
        return next((child.value.strip("\"'") for child in self.all(name) if child.value is not None), None)


def set_label(text: str, model: str, label: str, version: int) -> str:
    """The text with `label` of `model` at `version`, moved or new."""
    entry = _entry(text, model)
    for field in entry.all("version_labels"):
        if field.scalar("key") == label:
            for value in field.all("value"):
                return text[: value.value_start] + str(version) + text[value.end :]
    added = f'version_labels {{ key: "{label}" value: {version} }}'
    return _insert(text, entry, entry.all("version_labels") or entry.all("model_version_policy"), added)


def add_version(text: str, model: str, version: int) -> str:
    """The text with one more version of `model` in its policy `specific`."""
    specific = _specific(text, model)
    return _insert(text, specific, specific.all("versions"), f"versions: {version}")


def drop_versions(text: str, model: str, versions: Iterable[int]) -> str:
    """The text without `versions` in the policy `specific` of `model`; a line that held nothing else goes with them."""
    gone = {str(version) for version in versions}
    for field in reversed(_specific(text, model).all("versions")):
        if field.value in gone:
            start, end = field.start, field.end
            if separator := _SEPARATOR.match(text, end):
                end = separator.end()
            line_start, line_end = _line(text, start, end)
            if _is_alone(text, start, end):
                start, end = line_start, min(line_end + 1, len(text))
            elif text[start - 1 : start] == " ":
                start -= 1
            text = text[:start] + text[end:]
    return text


def _entry(text: str, model: str) -> Field:
    lists = [field for field in _fields(text) if field.name == "model_config_list"]
    entries = [entry for field in lists for entry in field.all("config") if entry.scalar("name") == model]
    if len(entries) != 1:
        raise RolloutError(f'Expected one `config {{ name: "{model}" ... }}` in braces, found {len(entries)}.')
    return entries[0]


def _specific(text: str, model: str) -> Field:
    policies = _entry(text, model).all("model_version_policy")
    for field in (found for policy in policies for found in policy.all("specific")):
        return field
    raise RolloutError(
        f"Expected `model_version_policy {{ specific {{ versions: ... }} }}` of model '{model}', found none."
    )


def _insert(text: str, parent: Field, siblings: list[Field], added: str) -> str:
    """Puts a field behind its last sibling, on a line of its own where siblings have theirs; else into the parent."""
    if not siblings:
        return f"{text[: parent.value_start]} {added}{text[parent.value_start :]}"
    last = siblings[-1]
    line_start, line_end = _line(text, last.start, last.end)
    indent = text[line_start : last.start]
    if indent.strip():
        return f"{text[: last.end]} {added}{text[last.end :]}"
    if _is_alone(text, last.start, last.end):
        return f"{text[:line_end]}\n{indent}{added}{text[line_end:]}"
    return f"{text[: last.end]}\n{indent}{added}{text[last.end :]}"


def _line(text: str, start: int, end: int) -> tuple[int, int]:
    """From where the line of `start` begins to where that of `end` ends, without its line break."""
    line_end = text.find("\n", end)
    return text.rfind("\n", 0, start) + 1, len(text) if line_end < 0 else line_end


def _is_alone(text: str, start: int, end: int) -> bool:
    """Whether beside [start, end) there is nothing but space and a comment."""
    line_start, line_end = _line(text, start, end)
    after = text[end:line_end].strip()
    return not text[line_start:start].strip() and (not after or after.startswith("#"))


def _fields(text: str) -> tuple[Field, ...]:
    tokens = [(m.group(), m.start(), m.end()) for m in _TOKEN.finditer(text) if not m.group().startswith("#")]
    fields, left = _message(tokens, 0)
    if left < len(tokens):
        raise _unexpected(text, tokens[left])
    return fields


def _message(tokens: list[tuple[str, int, int]], at: int) -> tuple[tuple[Field, ...], int]:
    """The fields from token `at` on, and the first token that belongs to none of them."""
    fields = []
    while at < len(tokens) and tokens[at][0] not in "{}<>[]:":
        name, start, end = tokens[at]
        at += 1
        if name in (",", ";"):
            continue
        if at < len(tokens) and tokens[at][0] == ":":
            at += 1
        if at >= len(tokens):
            break
        value, value_start, end = tokens[at]
        if value == "{":
            children, at = _message(tokens, at + 1)
            if at >= len(tokens) or tokens[at][0] != "}":
                return tuple(fields), at
            fields.append(Field(name, start, tokens[at][2], None, end, children))
        elif value in "<[":
            return tuple(fields), at
        else:
            fields.append(Field(name, start, end, value, value_start))
        at += 1
    return tuple(fields), at


def _unexpected(text: str, token: tuple[str, int, int]) -> RolloutError:
    line = text.count("\n", 0, token[1]) + 1
    return RolloutError(
        f"Line {line}: expected messages in braces and one value per field, as in `versions: 1718000000`, got "
        f"'{token[0]}'. Lists in brackets and messages in angles can be served but are not edited here; write them out."
    )
