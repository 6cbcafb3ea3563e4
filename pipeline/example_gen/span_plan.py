"""Which pieces the examples of a window of spans consist of, which of them are missing, and what must be read for them.

In: the spans that there are, the rules, what is in the store. Out: a `SpanPlan`.

Only the generator reads future items, and of those splits alone that it is trained or measured on: elsewhere they end
with their span. A span then changes twice on its way through a window, once into stage 1, and not whenever a border
passes it.

Of every span the examples are made once for each span that their future items may reach to: a border lies behind a span
on one day and ahead of it on another. All are made as long as the rows that they need are being read anyway, within
`future` days; after that no file of the span is opened again.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import NamedTuple

from pipeline.example_gen.rules import MovelineRules
from pipeline.example_gen.store import EXAMPLES, HISTORY, Piece, Store


class SpanPlan(NamedTuple):
    """What a run has and what it lacks.

    Attributes:
      splits: split -> its pieces of examples, in the order of spans.
      kept: all pieces that this window or the next one needs, or this one if its newest span changes once more.
      missing: pieces of examples to make.
      start: the history to begin with; None begins with nothing.
      carry: the history to leave for the next window; None if it is there.
      read: spans whose files are read, ascending.
    """

    splits: dict[str, list[Piece]]
    kept: list[Piece]
    missing: list[Piece]
    start: Piece | None
    carry: Piece | None
    read: list[int]


def span_plan(
    splits: Mapping[str, range],
    prints: Mapping[int, str],
    tables: str,
    rules: MovelineRules,
    code: str,
    store: Store,
) -> SpanPlan:
    """Plans a run.

    Args:
      splits: split -> its spans, in the order of time.
      prints: span -> a fingerprint of its files, of all spans that can matter.
      tables: a fingerprint of the side tables.
      rules: with spans.
      code: fingerprint of the code that makes examples.
      store: of pieces.
    """
    counts = rules.spans
    content = json.dumps(rules.of_one_span.to_dict(), sort_keys=True)
    common = f"{code}\n{content}\n{tables}\n{counts.history}"

    def piece(kind: str, span: int, until: int) -> Piece:
        # A history is that of the first span after it, which may look back as far as its own.
        first = span - counts.history + (kind == HISTORY)
        seen = [f"{s} {prints[s]}" for s in sorted(prints) if first <= s <= until]
        digest = hashlib.sha256("\n".join([common, kind, str(span), *seen]).encode())
        return Piece(kind, span, until, digest.hexdigest()[:16])

    newest = splits["test"][-1]
    reach = future_reach(splits, counts.future)
    parts = {split: [piece(EXAMPLES, span, reach[span]) for span in spans] for split, spans in splits.items()}
    window = range(next(iter(splits.values()))[0], newest + 1)
    wanted = [piece(EXAMPLES, s, u) for s in window for u in range(s, min(s + counts.future, newest) + 1)]
    carry, before = (piece(HISTORY, s, s) for s in (newest - counts.future, newest - counts.future - 1))
    missing = [p for p in wanted if store.done(p) is None]
    has_carry = store.done(carry) is not None
    kept = [*wanted, carry, before]
    if not missing and has_carry:
        return SpanPlan(parts, kept, [], None, None, [])
    needed = min([p.span for p in missing] + ([] if has_carry else [carry.span + 1]))
    # The newest history that lies before the first span to be made; without one, as many spans as it may look back to.
    befores = (piece(HISTORY, s, s) for s in range(needed - 1, needed - 1 - counts.history, -1))
    start = next((p for p in befores if store.done(p) is not None), None)
    begin = needed - counts.history if start is None else start.span + 1
    end = max([p.until for p in missing] + ([] if has_carry else [carry.span]))
    read = [span for span in sorted(prints) if begin <= span <= end]
    return SpanPlan(parts, kept, missing, start, None if has_carry else carry, read)


def future_reach(splits: Mapping[str, range], future: int) -> dict[int, int]:
    """Span -> the last span that its requests' future items may lie in, never one of a later split.

    Args:
      splits: split -> its spans.
      future: so many spans after its own at most.
    """
    # What vocabularies alone are learned from lies before stage 1, whose clicks they may know.
    last = {"vocabulary": splits.get("stage1", splits.get("train"))[-1]}
    last |= {split: spans[-1] for split, spans in splits.items() if split in ("stage1", "train", "eval")}
    return {span: min(span + future, last.get(split, span)) for split, spans in splits.items() for span in spans}
