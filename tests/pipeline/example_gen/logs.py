"""Small event logs and rules for tests, and examples in a form that compares."""

import math
import random

import pyarrow as pa

from amen_tf.config import Settings
from pipeline.event_log.schema import canonical_schema
from pipeline.example_gen import shuffle
from pipeline.example_gen.moveline import Plan, build_examples, make_plan
from pipeline.example_gen.rules import MovelineRules

# Borders of most tests: stage1 < 1000 <= stage2 < 2000 <= eval < 3000 <= test.
BORDERS = {"stage1_end": 1_000, "train_end": 2_000, "eval_end": 3_000}
FEATURES = (
    {"name": "segment", "owner": "user", "kind": "categorical"},
    {"name": "budget", "owner": "context", "kind": "numeric"},
    {"name": "brand", "owner": "item", "kind": "categorical"},
    {"name": "price", "owner": "item", "kind": "numeric"},
    {"name": "position", "owner": "candidate", "kind": "categorical"},
)


def make_settings(length=5, flow=3, split=None, preset=None, **data) -> Settings:
    return Settings.parse(
        {
            "data": {"log": "log", "user_shards": 3, **data},
            "split": split or BORDERS,
            "model": {"moveline_length": length, "flow_length": flow},
        },
        source="test",
    )


def make_rules(**settings) -> MovelineRules:
    return MovelineRules.from_settings(make_settings(**settings))


def event(time, behavior="click", item="i1", user="u", scene="feed", category="", label=-1, request="", **features):
    return {
        "user_id": user,
        "timestamp": time,
        "scene": scene,
        "behavior": behavior,
        "item_id": item,
        "category_id": category,
        "label": label,
        "request_id": request,
        **features,
    }


def shown(time, item, label, **rest):
    return event(time, "impression", item, label=label, **rest)


def to_table(events, rules) -> pa.Table:
    return pa.Table.from_pylist(events, schema=canonical_schema(rules.data))


def examples(events, rules, clicks_are_logged=None) -> dict[str, list[dict]]:
    """Split -> examples of the fast path as dictionaries, sorted by user, time and first candidate."""
    if clicks_are_logged is None:
        clicks_are_logged = any(e["behavior"] == rules.data.click_behavior for e in events)
    built = build_examples(to_table(events, rules), rules, clicks_are_logged)
    return {
        split: sorted(as_lists(batch), key=lambda e: (e["user_id"], e["timestamp"], e["scene"], e["candidate_item_id"]))
        for split, batch in built.items()
    }


def as_lists(batch: pa.RecordBatch) -> list[dict]:
    """Examples as dictionaries of lists, as a reader has them: what is missing from an example is an empty list."""
    return [{name: values or [] for name, values in row.items()} for row in batch.to_pylist()]


def sharded_examples(events, rules, shards, rows_of_a_file) -> dict[str, list[dict]]:
    """As `examples`, clicks being logged, by way of files of so many rows and of user shards; in any order."""
    pieces = {}
    for file in to_table(events, rules).to_batches(max_chunksize=rows_of_a_file):
        for shard, piece in shuffle.by_shard(file, shards):
            pieces.setdefault(shard, []).append(shuffle.from_bytes(piece))
    found = {split: [] for split in rules.split_names}
    for parts in pieces.values():
        for split, batch in build_examples(pa.concat_tables(parts), rules, True).items():
            found[split] += as_lists(batch)
    return found


def only(splits: dict[str, list[dict]], split: str = "stage1") -> dict:
    """The one example of a split, when no other split has any."""
    assert {name: len(made) for name, made in splits.items() if made} == {split: 1}
    return splits[split][0]


def plan_of(events, rules, clicks_are_logged=True) -> Plan:
    return make_plan(to_table(events, rules), rules, clicks_are_logged)


def comparable(splits: dict[str, list[dict]]) -> dict[str, list[str]]:
    """Examples as sorted texts: any order is the same, and NaN equals NaN."""
    return {split: sorted(repr(sorted(example.items())) for example in made) for split, made in splits.items()}


def random_events(rng: random.Random, rules: MovelineRules, size: int) -> list[dict]:
    """A log full of ties: few users, items and moments, duplicates, impressions with and without request ids.

    Times cluster on and around the borders of the splits.
    """
    moments = [500 + rng.randrange(12) for _ in range(6)]
    for border in rules.split_ends[:-1]:
        moments += [border - 2, border - 1, border, border, border + 1, border + rng.randrange(400)]
    behaviors = rng.choice([("click", "cart", "search"), ("cart", "search"), ("favorite",), ()])
    users = [f"u{n}" for n in range(rng.randint(1, 4))]
    with_ids = rng.random()
    events = []
    for _ in range(size):
        extra = {
            f.name: (
                rng.choice(["", "a", "b"]) if f.kind == "categorical" else rng.choice([math.nan, -1.5, 0.0, 0.25, 8.0])
            )
            for f in rules.contract.declared
        }
        common = dict(
            user=rng.choice(users),
            scene=rng.choice(["feed", "search"]),
            category=rng.choice(["", "c1"]),
            **extra,
        )
        time = rng.choice(moments)
        if behaviors and rng.random() < 0.5:
            events.append(event(time, rng.choice(behaviors), rng.choice(["", "i1", "i2", "i3"]), **common))
        else:
            request = f"r{rng.randrange(3)}" if rng.random() < with_ids else ""
            item = rng.choice(["i1", "i2", "i3", "i4"])
            events.append(shown(time, item, rng.randrange(2), request=request, **common))
        if rng.random() < 0.1:
            events.append(dict(events[-1]))
    return events
