"""What every row of an event log must obey, and the reasons given when it does not.

In: the columns of one batch under their canonical names. Out: canonical columns, and for each row the first rule
that it breaks.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from amen_tf import features
from amen_tf.config import DataSettings
from pipeline.event_log import columns, schema
from pipeline.event_log.errors import EventLogError

# 1990-01-01 to 2100-01-01 UTC, in seconds.
EARLIEST, LATEST = 631_152_000, 4_102_444_800
_PER_SECOND = {"seconds": 1, "milliseconds": 1000, "microseconds": 10**6, "nanoseconds": 10**9}

NO_USER = "no user"
NO_TIME = "no time"
TIME_NOT_NUMBER = "time is not a number of unix {unit}"
TIME_OUTSIDE = "time lies outside the years 1990 to 2100 as unix {unit}"
NO_SCENE = "no scene"
NO_BEHAVIOR = "no behavior"
NO_ITEM = "impression without an item"
NO_LABEL = "impression without a label"
LABEL_NOT_BINARY = "label of an impression is not 0 or 1"
LABEL_ELSEWHERE = "label outside impression rows, where it must be empty"
NOT_AN_ID = "fraction or inexact number where an id or category belongs"
NOT_A_NUMBER = "numeric feature is not a finite number"
WRONG_FIELDS = "wrong number of fields"
NOT_AN_EXAMPLE = "not a tf.Example"
TOO_MANY_VALUES = "more than {values} values, as many as the feature is declared with"
SEVERAL_VALUES = "several values where one belongs"
NOT_UTF8 = "text that is not UTF-8"


@dataclasses.dataclass(frozen=True)
class Fault:
    """A rule and the rows that break it: `column` is canonical, `rows` a bool mask `[n]`."""

    column: str
    reason: str
    rows: np.ndarray


def apply(
    raw: dict[str, pa.Array], length: int, data: DataSettings, file: str, judge_unit: bool = True
) -> tuple[dict[str, pa.Array], list[Fault]]:
    """Canonical columns of one batch and the rules its rows break, in the order in which they are reported.

    Args:
      raw: canonical name -> the file's values `[length]`; optional columns may be absent.
      length: rows in the batch.
      data: time unit, names of behaviours and the declared features.
      file: named in errors that stop at once.
      judge_unit: whether times that are mostly in another unit stop the run, or are bad rows.

    Raises:
      EventLogError: times are in another unit than `data.time_unit` says, or there are impressions and no label
        column.
    """
    made: dict[str, pa.Array] = {}
    faults: list[Fault] = []
    texts = (features.USER_ID, features.SCENE, features.BEHAVIOR, features.ITEM_ID)
    optional_texts = (features.CATEGORY_ID, features.REQUEST_ID)
    declared = tuple(f.name for f in data.log_features if f.kind != "numeric")
    for name in (*texts, *optional_texts, *declared):
        if name not in raw:
            made[name] = pa.array([""] * length, pa.string())
            continue
        made[name], broken = columns.text(raw[name])
        faults.append(Fault(name, NOT_AN_ID, broken))

    seconds, time_faults = _times(raw[features.TIMESTAMP], file, data, judge_unit)
    made[features.TIMESTAMP] = pa.array(seconds, pa.int64())

    empty = {name: _equal(made[name], "") for name in texts}
    impression = _equal(made[features.BEHAVIOR], data.impression_behavior)
    labels, label_faults = _labels(raw.get(features.LABEL), impression, length, data, file)
    made[features.LABEL] = pa.array(labels, pa.int8())
    faults = [
        *faults,
        Fault(features.USER_ID, NO_USER, empty[features.USER_ID]),
        *time_faults,
        Fault(features.SCENE, NO_SCENE, empty[features.SCENE]),
        Fault(features.BEHAVIOR, NO_BEHAVIOR, empty[features.BEHAVIOR]),
        Fault(features.ITEM_ID, NO_ITEM, impression & empty[features.ITEM_ID]),
        *label_faults,
    ]
    for feature in data.log_features:
        if feature.kind == "numeric":
            made[feature.name], broken = columns.numeric_feature(raw[feature.name])
            faults.append(Fault(feature.name, NOT_A_NUMBER, broken))
        elif feature.kind == "multi_valued":
            made[feature.name], broken = columns.several_texts(made[feature.name], feature.values)
            faults.append(Fault(feature.name, TOO_MANY_VALUES.format(values=feature.values), broken))
    return made, faults


def first_fault(faults: list[Fault], length: int) -> np.ndarray:
    """For each row the number of the first rule it breaks (an index into `faults`), or -1: int16 `[length]`."""
    first = np.full(length, -1, np.int16)
    for number, fault in enumerate(faults):
        first[fault.rows & (first < 0)] = number
    return first


def _equal(values: pa.Array, word: str) -> np.ndarray:
    return pc.equal(values, word).to_numpy(zero_copy_only=False)


def _times(values: pa.Array, file: str, data: DataSettings, judge_unit: bool) -> tuple[np.ndarray, list[Fault]]:
    unit = data.time_unit
    numbers, missing, broken = columns.time_value(values, unit)
    given = ~missing & ~broken
    plausible = given & _within(numbers, unit)
    count = int(given.sum())
    # One odd time is that row's fault; most of a batch in another unit is the setting's.
    if judge_unit and plausible.sum() * 2 < count:
        for other in _PER_SECOND:
            if other != unit and (given & _within(numbers, other)).sum() * 2 > count:
                raise EventLogError(_wrong_unit(float(numbers[given & _within(numbers, other)][0]), other, file, data))
    faults = [
        Fault(features.TIMESTAMP, NO_TIME, missing),
        Fault(features.TIMESTAMP, TIME_NOT_NUMBER.format(unit=unit), broken),
        Fault(features.TIMESTAMP, TIME_OUTSIDE.format(unit=unit), given & ~plausible),
    ]
    whole = np.where(plausible, np.floor(numbers / _PER_SECOND[unit]), 0)
    return whole.astype(np.int64), faults


def _within(numbers: np.ndarray, unit: str) -> np.ndarray:
    scale = _PER_SECOND[unit]
    with np.errstate(invalid="ignore"):
        return (numbers >= EARLIEST * scale) & (numbers < LATEST * scale)


def _wrong_unit(example: float, other: str, file: str, data: DataSettings) -> str:
    source = data.columns.get(features.TIMESTAMP, features.TIMESTAMP)
    fix = (
        f"Set data.time_unit to {other}."
        if other in ("seconds", "milliseconds")
        else "Only seconds and milliseconds are read: convert the column."
    )
    return (
        f"{file}: the times in column `{source}` look like {other} (for instance {example:.0f}), "
        f"while data.time_unit says {data.time_unit}. Expected times between the years 1990 and 2100. {fix}"
    )


def _labels(
    values: pa.Array | None, impression: np.ndarray, length: int, data: DataSettings, file: str
) -> tuple[np.ndarray, list[Fault]]:
    none = np.full(length, schema.NO_LABEL, np.int8)
    if values is None:
        if impression.any():
            raise EventLogError(
                f"{file}: has {data.impression_behavior} rows but no column for the event log column "
                f"`{features.LABEL}` (1 clicked, 0 not). Set data.columns: {{{features.LABEL}: its name in the file}} "
                "if it goes by another name, or data.impression_behavior if impressions do."
            )
        return none, []
    numbers, missing, broken = columns.number(values)
    binary = (numbers == 0) | (numbers == 1)
    faults = [
        Fault(features.LABEL, NO_LABEL, impression & missing),
        Fault(features.LABEL, LABEL_NOT_BINARY, impression & ~missing & (broken | ~binary)),
        Fault(features.LABEL, LABEL_ELSEWHERE, ~impression & ~missing),
    ]
    return np.where(impression & binary, numbers, schema.NO_LABEL).astype(np.int8), faults
