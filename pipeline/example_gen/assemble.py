"""Offsets -> Arrow columns of the raw examples.

In: `Positions`, where each request's values lie in the sorted events. Out: record batches in the order and kinds of
`FeatureContract.raw_columns`; every column is a list column, as tfx_bsl's encoder wants them.
"""

import dataclasses

import numpy as np
import pyarrow as pa

from amen_tf import features
from amen_tf.features import FeatureContract, RawColumn
from pipeline.example_gen.coded import CodedColumn, ragged

_ARROW = {"string": pa.binary(), "int": pa.int64(), "float": pa.float32()}


@dataclasses.dataclass(frozen=True)
class Positions:
    """Sorted, distinct events and each request's offsets into them. Rows are positions in `columns`.

    Attributes:
      columns: canonical name -> coded column `[rows]`.
      moveline_behavior: `behavior`, but a positive impression that enters as a click has the click behaviour.
      clicked: bool `[rows]`, positive impressions.
      head: int64 `[requests]`, row that gives time, scene, user and request features.
      candidates: int64 `[impressions]`, rows; request i has `candidate_count[i]` of them from `candidate_start[i]`.
      events: int64, rows that may be in a moveline, ascending; `moveline_start`, `moveline_length` likewise.
      futures: int64, rows that may be future items, ascending; `future_start`, `future_length` likewise.
      diff: prefix -> (row or -1, how many of the stored moveline events precede that row's request): int64
        `[requests]` each.
    """

    columns: dict[str, CodedColumn]
    moveline_behavior: CodedColumn
    clicked: np.ndarray
    head: np.ndarray
    candidates: np.ndarray
    candidate_start: np.ndarray
    candidate_count: np.ndarray
    events: np.ndarray
    moveline_start: np.ndarray
    moveline_length: np.ndarray
    futures: np.ndarray
    future_start: np.ndarray
    future_length: np.ndarray
    diff: dict[str, tuple[np.ndarray, np.ndarray]]


def to_record_batch(positions: Positions, requests: np.ndarray, contract: FeatureContract) -> pa.RecordBatch:
    """Examples of the given requests: one row each, in this order.

    Text is list<binary>, integers list<int64>, floats list<float32>. A scalar that is absent is null, so that it is
    missing from the example and statistics see it; inside lists an absent value keeps its place as "" or NaN, so that
    lists of one kind stay of equal length.
    """
    p = positions
    lists = {
        features.CANDIDATE: _view(p.candidates, p.candidate_start[requests], p.candidate_count[requests]),
        features.MOVELINE: _view(p.events, p.moveline_start[requests], p.moveline_length[requests]),
        features.FUTURE: _view(p.futures, p.future_start[requests], p.future_length[requests]),
    }
    rows = {"": p.head[requests], **{prefix: row[requests] for prefix, (row, _) in p.diff.items()}}

    def column(raw: RawColumn) -> pa.Array:
        prefix = features.CANDIDATE if raw.name == features.LABEL else raw.name.removesuffix(raw.meaning)
        if raw.meaning == features.MOVELINE_LENGTH:
            there = rows[prefix] >= 0
            return _scalars(pa.array(p.diff[prefix][1][requests][there]), there, raw)
        moved = prefix == features.MOVELINE and raw.meaning == features.BEHAVIOR
        source = p.moveline_behavior if moved else p.columns[raw.meaning]
        if not raw.scalar:
            index, offsets = lists[prefix]
            return _to_list(source.take(index), offsets, raw)
        there = rows[prefix] >= 0
        there[there] = source.present()[rows[prefix][there]]
        return _scalars(source.take(rows[prefix][there]), there, raw)

    columns = contract.raw_columns
    return pa.RecordBatch.from_arrays([column(raw) for raw in columns], names=[raw.name for raw in columns])


def _view(rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    index, offsets = ragged(starts, lengths)
    return rows[index], offsets


def _scalars(values: pa.Array, there: np.ndarray, raw: RawColumn) -> pa.Array:
    """Lists of one value where a request has one, and null where not; `there`: bool `[requests]`."""
    return _to_list(values, np.concatenate([[0], np.cumsum(there)]), raw, ~there)


def _to_list(values: pa.Array, offsets: np.ndarray, raw: RawColumn, absent: np.ndarray | None = None) -> pa.Array:
    # Arrow refuses offsets beyond int32 here instead of wrapping them: ask for fewer requests at once then. A list is
    # null where its offset is.
    null = None if absent is None else np.append(absent, False)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32(), mask=null), values.cast(_ARROW[raw.kind]))
