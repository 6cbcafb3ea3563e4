"""The steps of Beam where a log is taken span by span: a history -> rows by user shard, shard -> files of its pieces.

In: blocks as `steps` deals them out, those of a span under its number. Out: files in the store, and counts.
"""

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from amen_tf.features import SPAN
from pipeline.event_log import side_tables
from pipeline.event_log.schema import canonical_schema
from pipeline.example_gen import shuffle, steps, wire
from pipeline.example_gen.history import kept_history
from pipeline.example_gen.moveline import make_plan
from pipeline.example_gen.rules import MovelineRules
from pipeline.example_gen.span_plan import SpanPlan
from pipeline.example_gen.store import Piece, Store

HISTORY = "history"


@beam.typehints.with_output_types(tuple[int, Any])
class ReadHistory(beam.DoFn):
    """Path of a file of a history -> (shard, (`HISTORY`, block)); the number of shards may have been another then.

    Args:
      temporary: folder that all workers see.
      shards: of the users.
      spill: as of `steps.ReadFile`.
    """

    def __init__(self, temporary: str, shards: int, spill: bool):
        self._temporary = temporary
        self._shards = shards
        self._spill = spill

    def process(self, path: str) -> Iterator:
        spilled = f"{self._temporary}/history-{uuid.uuid4().hex}" if self._spill else None
        blocks = shuffle.passed_on(self._blocks(path), spilled)
        yield from ((shard, (HISTORY, block)) for shard, block in blocks)

    def _blocks(self, path: str) -> Iterator[tuple[int, bytes]]:
        for table in steps.read_tables([path]):
            for batch in table.combine_chunks().to_batches():
                yield from shuffle.by_shard(batch, self._shards)


class WriteSpans(steps.ShardStep):
    """(shard, blocks of its rows, history and users) and the facts of what was read -> files, a dictionary of counts.

    Args:
      rules: of the run.
      plan: what is missing.
      store: where it goes.
      temporary: a folder on the same file system.
      shards: of the users.
    """

    def __init__(self, rules: MovelineRules, plan: SpanPlan, store: Store, temporary: str, shards: int):
        super().__init__(rules, temporary, shards)
        self._plan = plan
        self._store = store

    def process(self, element: tuple[int, Iterable[tuple[str | int, shuffle.Block]]], facts: dict) -> Iterator[dict]:
        shard, blocks = element
        if facts["errors"]:
            return
        rules, blocks = self._rules.of_one_span, list(blocks)
        users = self._users([block for kind, block in blocks if kind == steps.USERS])
        if repeated := side_tables.repeated(users, side_tables.USER):
            yield {steps.REPEATED_USERS: repeated}
            return
        schema = canonical_schema(rules.data)
        of_span = {span: self._rows(schema, span, blocks) for span in self._plan.read}
        nothing = shuffle.to_bytes(_with_span(schema.empty_table(), 0))
        history = pa.concat_tables(
            map(shuffle.read_block, [nothing, *(block for kind, block in blocks if kind == HISTORY)])
        )
        counts: dict = {"pieces": {}, "history_rows": 0}
        for span in self._plan.read:
            history = _not_before(history, span - self._depth)
            for piece in self._plan.missing:
                if piece.span == span:
                    ahead = [rows for other, (rows, _) in of_span.items() if span <= other <= piece.until]
                    events = pa.concat_tables([history, *ahead])
                    counts["pieces"][piece.name] = self._write_examples(shard, piece, events, users, of_span[span][1])
            known = pa.concat_tables([_not_before(history, span + 1 - self._depth), of_span[span][0]])
            # Whether clicks are logged has been settled for the whole window, see `prepare`.
            history = kept_history(known, rules, False) if self._depth else known.slice(0, 0)
            if self._plan.carry is not None and self._plan.carry.span == span:
                name = f"{self._store.path(self._plan.carry)}/rows-{shard:05d}-of-{self._shards:05d}.arrow"
                wire.write_whole(name, self._temporary, shuffle.to_bytes(history))
                counts["history_rows"] = history.num_rows
        yield counts

    @property
    def _depth(self) -> int:
        return self._rules.spans.history

    def _rows(self, schema: pa.Schema, span: int, blocks: list) -> tuple[pa.Table, int]:
        """The rows of a span with its number, and how many were left out of heavy users'."""
        empty = shuffle.to_bytes(schema.empty_table())
        rows, left_out = shuffle.gather(
            [empty, *(b for kind, b in blocks if kind == span)], self._rules.data.max_user_rows
        )
        return _with_span(rows, span), left_out

    def _write_examples(self, shard: int, piece: Piece, events: pa.Table, users: pa.Table, left_out: int) -> dict:
        events, absent = self._joined(events, users)
        now = pc.equal(events.column(SPAN), piece.span).to_numpy()
        plan = make_plan(events, self._rules.of_one_span, False, piece.span)
        (split,) = plan.rules.split_names
        path = f"{self._store.path(piece)}/{steps.example_file(shard, self._shards)}"
        wire.write_tfrecord(path, self._temporary, steps.encoded(plan, split))
        return {
            "log": {**plan.counts, "above_user_limit": left_out},
            "split": plan.split_counts(split),
            "tables": {name: int((rows & now).sum()) for name, rows in absent.items()},
        }


def _with_span(rows: pa.Table, span: int) -> pa.Table:
    return rows.append_column(SPAN, pa.array([span] * rows.num_rows, pa.int64()))


def _not_before(rows: pa.Table, span: int) -> pa.Table:
    return rows.filter(pc.greater_equal(rows.column(SPAN), span))
