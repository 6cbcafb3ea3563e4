"""What is to be ranked: one user's moveline and candidates, read from JSON and checked.

In: a dict or a JSON file as in serving/README.md. Out: `UserRequest`. `moveline` and `candidates` may come as a list of
objects or as an object of equally long lists, one per column.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from serving.rank_errors import InvalidRequestError, MovelineLengthError

# Unix seconds stay below this until the year 5138; milliseconds have been above it since 1973.
_MAX_SECONDS = 10**11
# Between the values of a multi-valued feature, as in `amen_tf.features`, which a client without TensorFlow has not.
VALUE_SEPARATOR = "|"


def _text(value: object) -> str:
    """Ids and names: strings, or integers as some logs have them."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"expected a string, got {_shown(value)}")


def _filled_text(value: object) -> str:
    text = _text(value)
    if not text:
        raise ValueError('expected a non-empty string, got ""')
    return text


def _seconds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"expected unix seconds as a whole number, got {_shown(value)}")
    if value >= _MAX_SECONDS:
        raise ValueError(f"expected unix seconds, got {value}, which looks like milliseconds; divide it by 1000")
    return value


def _feature(value: object) -> object:
    """A declared feature's value as the model takes it: a list of strings is one text with separators."""
    if isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
        return _joined(value)
    if isinstance(value, bool) or not (value is None or isinstance(value, (str, int, float))):
        raise ValueError(f"expected a string, a number, null or a list of strings, got {_shown(value)}")
    return value


def _joined(values: Sequence[str]) -> str:
    for value in values:
        if VALUE_SEPARATOR in value:
            raise ValueError(
                f'expected values without "{VALUE_SEPARATOR}", which separates them in the model, got {_shown(value)}; '
                "give each value an entry of its own"
            )
    # As the event log has them: no empty values, no blanks around others.
    return VALUE_SEPARATOR.join(text for value in values if (text := value.strip()))


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."


Text = Annotated[str, BeforeValidator(_text)]
FilledText = Annotated[str, BeforeValidator(_filled_text)]
Seconds = Annotated[int, BeforeValidator(_seconds)]
Feature = Annotated[Any, BeforeValidator(_feature)]


class Event(BaseModel):
    """One event of the moveline; further keys are declared event features."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Feature]

    timestamp: Seconds
    scene: Text
    behavior: Text
    item_id: Text = ""
    category_id: Text = ""


class Candidate(BaseModel):
    """One item to score; further keys are declared candidate features."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Feature]

    item_id: FilledText
    category_id: Text = ""


class UserRequest(BaseModel):
    """A ranking request.

    Attributes:
        timestamp: time of the request, unix seconds.
        scene: where the candidates are to be shown.
        user_id: sent only to models that have such an input.
        user, context: declared features of the user and of the request; multi-valued ones as one text with separators
            or as a list of strings, which becomes that text.
        moveline: past events, any order, none later than `timestamp`.
        candidates: items to score, in the order of the answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    timestamp: Seconds
    scene: FilledText
    user_id: Text = ""
    user: dict[str, Feature] = {}
    context: dict[str, Feature] = {}
    moveline: tuple[Event, ...] = ()
    candidates: tuple[Candidate, ...]


def parse_request(document: object, source: str = "The request") -> UserRequest:
    """Checks a request given as plain Python values.

    Args:
        document: the request, as JSON would give it.
        source: how messages name it.

    Returns:
        The request.

    Raises:
        InvalidRequestError: with one line per problem, each starting with its path.
        MovelineLengthError: columns of unequal length.
    """
    if isinstance(document, Mapping):
        listed = ("moveline", "candidates")
        document = {key: _rows(value, key, source) if key in listed else value for key, value in document.items()}
    try:
        request = UserRequest.model_validate(document)
    except ValidationError as error:
        raise InvalidRequestError(source, [_problem(entry) for entry in error.errors()]) from None
    late = [
        f"moveline[{index}].timestamp: expected a time up to the request's {request.timestamp}, got {event.timestamp}"
        for index, event in enumerate(request.moveline)
        if event.timestamp > request.timestamp
    ]
    if late:
        raise InvalidRequestError(source, late)
    return request


def load_request(path: str | Path) -> UserRequest:
    """Reads and checks a request file.

    Args:
        path: JSON file, UTF-8.

    Returns:
        The request.

    Raises:
        InvalidRequestError: the file is missing, is no JSON, or its content is wrong.
        MovelineLengthError: columns of unequal length.
    """
    source = f"Request file '{path}'"
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidRequestError(source, [f"expected a readable JSON file: {reason}"]) from None
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}, column {error.colno}: expected JSON: {error.msg}"
        raise InvalidRequestError(source, [problem]) from None
    return parse_request(document, source)


def _rows(value: object, name: str, source: str) -> object:
    """Columns to rows; anything but an object of lists is left to the validation."""
    if not isinstance(value, Mapping) or not all(isinstance(column, (list, tuple)) for column in value.values()):
        return value
    lengths = {key: len(column) for key, column in value.items()}
    if len(set(lengths.values())) > 1:
        raise MovelineLengthError(source, lengths, name)
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]


def _problem(entry: Mapping) -> str:
    path = _path(entry["loc"])
    if entry["type"] == "missing":
        return f"{path}: missing; expected a value"
    if entry["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(entry["loc"][-1]), UserRequest.model_fields, 1)
        guess = f"; did you mean '{near[0]}'?" if near else ""
        return f"{path}: unknown key{guess} (known: {', '.join(UserRequest.model_fields)})"
    if entry["type"] == "value_error":
        return f"{path}: {entry['ctx']['error']}"
    expected = {"tuple_type": "a list of objects", "dict_type": "an object", "model_type": "an object"}
    return f"{path}: expected {expected.get(entry['type'], entry['msg'])}, got {_shown(entry['input'])}"


def _path(location: tuple) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "the document"
