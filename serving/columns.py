"""A ranking request as the columns of the model's `rank` signature.

The signature's inputs decide what is sent: `timestamp`, `scene`, `user_id` and features `[B]`, `moveline_*` `[B, L']`,
`candidate_*` `[B, N]`, with B = 1. What the request does not say is "" for strings, NaN for floats and 0 for integers.
"""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence

from serving.rank_errors import InvalidRequestError, SignatureNotFoundError, UnknownColumnError
from serving.rank_request import Candidate, Event, UserRequest

MOVELINE, CANDIDATE = "moveline_", "candidate_"
_REQUEST_FIELDS = ("timestamp", "scene", "user_id")
_STRINGS, _FLOATS = ("DT_STRING",), ("DT_FLOAT", "DT_DOUBLE")
# With the bits of their values.
_INTEGERS = {"DT_INT64": 63, "DT_INT32": 31}
_ITEM_COLUMN = CANDIDATE + "item_id"


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """One input of a signature: name, dtype as metadata writes it ("DT_STRING"), rank or None where unknown."""

    name: str
    dtype: str
    rank: int | None


def check_rank_inputs(specs: Mapping[str, InputSpec], where: str) -> None:
    """Raises SignatureNotFoundError unless the client can fill every input."""
    strange = [
        f"{spec.name} ({spec.dtype})"
        for spec in specs.values()
        if spec.dtype not in (*_STRINGS, *_FLOATS, *_INTEGERS) and not _is_mask(spec)
    ]
    if strange or _ITEM_COLUMN not in specs:
        found = ", ".join(specs) or "no inputs"
        reason = f"cannot fill {', '.join(strange)}" if strange else f"misses '{_ITEM_COLUMN}'"
        raise SignatureNotFoundError(
            f"{where} is no ranking signature of this project: the client {reason}; its inputs are {found}. Serve a "
            "model pushed by `amen run`, or name its ranking signature."
        )


def _is_mask(spec: InputSpec) -> bool:
    return spec.name == CANDIDATE + "mask" and spec.dtype == "DT_BOOL"


def build_columns(
    request: UserRequest,
    specs: Mapping[str, InputSpec],
    source: str = "The request",
    newest_events: int | None = None,
) -> dict[str, list]:
    """The `inputs` object of a columnar :predict request, with B = 1.

    Args:
        request: at least one candidate.
        specs: inputs of the `rank` signature by name.
        source: how messages name the request.
        newest_events: how many events are kept, the newest; None keeps all.

    Returns:
        Input name -> [value] or [[value, ...]]. Events are oldest first; an empty moveline is one padding event,
        for JSON cannot carry every shape with a zero in it.

    Raises:
        UnknownColumnError: a feature that no input takes.
        InvalidRequestError: a value of the wrong type.
    """
    _check_known(request, specs)
    features = {**request.user, **request.context}
    twice = sorted(set(request.user) & set(request.context))
    if twice:
        raise InvalidRequestError(source, [f"context.{name}: given under 'user' as well" for name in twice])
    problems: list[str] = []
    order = sorted(range(len(request.moveline)), key=lambda index: request.moveline[index].timestamp)
    # Not [-newest_events:], which for none would be all.
    order = order[max(0, len(order) - newest_events) :] if newest_events is not None else order
    columns: dict[str, list] = {}
    for name, spec in specs.items():
        if _is_mask(spec):
            columns[name] = [[True] * len(request.candidates)]
        elif name.startswith(MOVELINE):
            column = _column(request.moveline, name[len(MOVELINE) :], spec, "moveline", order, problems)
            columns[name] = [column or [_converted(None, spec, "", problems)]]
        elif name.startswith(CANDIDATE):
            rows = range(len(request.candidates))
            columns[name] = [_column(request.candidates, name[len(CANDIDATE) :], spec, "candidates", rows, problems)]
        elif name in _REQUEST_FIELDS:
            columns[name] = [_converted(getattr(request, name), spec, name, problems)]
        else:
            group = "context" if name in request.context else "user"
            columns[name] = [_converted(features.get(name), spec, f"{group}.{name}", problems)]
    if problems:
        raise InvalidRequestError(source, problems)
    return columns


def _column(
    rows: Sequence[Event | Candidate],
    field: str,
    spec: InputSpec,
    group: str,
    order: Sequence[int],
    problems: list[str],
) -> list:
    return [_converted(_value(rows[index], field), spec, f"{group}[{index}].{field}", problems) for index in order]


def _value(row: Event | Candidate, field: str) -> object:
    # Not getattr alone: a feature may be named as one of pydantic's methods, e.g. "copy".
    return getattr(row, field) if field in type(row).model_fields else row.model_extra.get(field)


def _converted(value: object, spec: InputSpec, where: str, problems: list[str]) -> object:
    if spec.dtype in _STRINGS:
        if value is None:
            return ""
        if isinstance(value, float):
            problems.append(f"{where}: expected a string, for the model takes it as a category; got the number {value}")
        return str(value)
    if spec.dtype in _FLOATS:
        if isinstance(value, str):
            problems.append(f'{where}: expected a number, got "{value}"')
            return 0.0
        return float("nan") if value is None else float(value)
    if value is not None and not isinstance(value, int):
        problems.append(f"{where}: expected a whole number, got {value!r}")
    elif value is not None and not -(2 ** _INTEGERS[spec.dtype]) <= value < 2 ** _INTEGERS[spec.dtype]:
        problems.append(f"{where}: expected a number of {_INTEGERS[spec.dtype] + 1} bits, got {value}")
    return value if isinstance(value, int) else 0


def _check_known(request: UserRequest, specs: Mapping[str, InputSpec]) -> None:
    plain = [name for name in specs if name not in _REQUEST_FIELDS and not name.startswith((MOVELINE, CANDIDATE))]
    for group in ("user", "context"):
        _check_names(getattr(request, group), plain, group)
    for group, prefix, rows in (
        ("moveline", MOVELINE, request.moveline),
        ("candidates", CANDIDATE, request.candidates),
    ):
        valid = [name[len(prefix) :] for name in specs if name.startswith(prefix)]
        for index, row in enumerate(rows):
            _check_names(row.model_extra, valid, f"{group}[{index}]")


def _check_names(given: Mapping, valid: Sequence[str], where: str) -> None:
    for name in given:
        if name not in valid:
            near = difflib.get_close_matches(name, valid, 1)
            raise UnknownColumnError(f"{where}.{name}", name, sorted(valid), near[0] if near else None)
