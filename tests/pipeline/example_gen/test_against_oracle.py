"""The fast path against the plain-Python oracle on random logs, and against itself in other orders and shards."""

import random

import pytest

from pipeline.example_gen import shuffle
from tests.pipeline.example_gen import oracle
from tests.pipeline.example_gen.logs import (
    BORDERS,
    FEATURES,
    comparable,
    examples,
    make_rules,
    random_events,
    sharded_examples,
    to_table,
)


def random_rules(rng):
    return make_rules(
        length=rng.randint(1, 6),
        flow=rng.randint(1, 4),
        features=rng.choice([(), FEATURES]),
        max_candidates=rng.randint(1, 4),
        diff_window_hours=rng.choice([0.01, 0.2, 24]),
        impressions_as_clicks=rng.choice(["auto", "always", "never"]),
        positive_behaviors=rng.choice([("click", "cart"), ("cart",), ("click", "favorite", "search")]),
        split=rng.choice([BORDERS, {**BORDERS, "stage1_end": None}, {**BORDERS, "start": 505}]),
    )


@pytest.mark.parametrize("block", range(10))
def test_random_logs_give_the_oracles_examples(block):
    made = 0
    for seed in range(15 * block, 15 * block + 15):
        rng = random.Random(seed)
        rules = random_rules(rng)
        events = random_events(rng, rules, rng.choice([0, 1, 2, 10, 40, 80]))
        clicks = rng.random() < 0.5
        expected = oracle.make_examples(events, rules, clicks)
        assert comparable(examples(events, rules, clicks)) == comparable(expected), f"seed {seed}"
        made += sum(map(len, expected.values()))
    assert made > 25


@pytest.mark.parametrize("seed", range(10))
def test_file_order_and_shards_change_no_example(seed):
    rng = random.Random(seed)
    rules = random_rules(rng)
    events = random_events(rng, rules, 60)
    expected = comparable(examples(events, rules, True))
    rng.shuffle(events)
    assert comparable(examples(events, rules, True)) == expected
    for shards in (1, 2, 5):
        assert comparable(sharded_examples(events, rules, shards, rows_of_a_file=7)) == expected


def test_a_user_is_always_in_the_same_shard():
    rules = make_rules()
    events = random_events(random.Random(1), rules, 80)
    where = {}
    for part in to_table(events, rules).to_batches(max_chunksize=7):
        for shard, piece in shuffle.by_shard(part, 3):
            for user in shuffle.from_bytes(piece).column("user_id").to_pylist():
                where.setdefault(user, set()).add(shard)
    assert len(where) > 1 and all(len(shards) == 1 for shards in where.values())
