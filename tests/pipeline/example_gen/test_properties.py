"""The fast path on logs that Hypothesis makes up and shrinks: against the oracle, in any order, files and shards."""

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.example_gen import oracle
from tests.pipeline.example_gen.logs import (
    BORDERS,
    comparable,
    event,
    examples,
    make_rules,
    plan_of,
    sharded_examples,
    shown,
)

# On, before and after every border, and close together at the beginning.
MOMENTS = [500, 501, 502, *(border + apart for border in BORDERS.values() for apart in (-1, 0, 1))]
# Derandomised, so that a change of the code alone decides whether they pass.
many = settings(max_examples=100, deadline=None, derandomize=True)

common = {
    "user": st.sampled_from("uvw"),
    "scene": st.sampled_from(["feed", "search"]),
    "category": st.sampled_from(["", "c1"]),
}
acts = st.builds(
    event,
    st.sampled_from(MOMENTS),
    st.sampled_from(["click", "cart", "search"]),
    st.sampled_from(["", "i1", "i2"]),
    **common,
)
impressions = st.builds(
    shown,
    st.sampled_from(MOMENTS),
    st.sampled_from(["i1", "i2", "i3"]),
    st.sampled_from([0, 1]),
    request=st.sampled_from(["", "", "r1", "r2"]),
    **common,
)


@st.composite
def logs(draw):
    """Events in any order; duplicates, ties, users with one event, users without impressions and without acts."""
    events = draw(st.lists(st.one_of(acts, impressions, impressions), max_size=25))
    again = draw(st.lists(st.sampled_from(events), max_size=3)) if events else []
    return draw(st.permutations(events + again))


rules = st.builds(
    make_rules,
    length=st.integers(1, 4),
    flow=st.integers(1, 3),
    max_candidates=st.integers(1, 3),
    # A second, the distance between two borders and one second less, all of it.
    diff_window_hours=st.sampled_from([1 / 3600, 999 / 3600, 1000 / 3600, 24.0]),
    impressions_as_clicks=st.sampled_from(["auto", "always", "never"]),
    positive_behaviors=st.sampled_from([("click", "cart"), ("cart",), ("search",)]),
    split=st.sampled_from(
        [
            BORDERS,
            {**BORDERS, "stage1_end": None},
            {**BORDERS, "start": 501},
            {**BORDERS, "start": 1_000, "stage1_end": None},
        ]
    ),
)


@many
@given(logs(), rules, st.booleans())
def test_every_log_gives_the_oracles_examples(log, rules, clicks_are_logged):
    expected = oracle.make_examples(log, rules, clicks_are_logged)
    assert comparable(examples(log, rules, clicks_are_logged)) == comparable(expected)


@many
@given(logs(), rules, st.integers(1, 5), st.integers(1, 30))
def test_any_files_and_any_shards_give_the_same_examples(log, rules, shards, rows_of_a_file):
    found = sharded_examples(log, rules, shards, rows_of_a_file)
    in_time = sorted(log, key=lambda e: e["timestamp"])
    assert comparable(found) == comparable(examples(in_time, rules, True))


@many
@given(logs(), rules)
def test_every_row_has_one_fate(log, rules):
    plan = plan_of(log, rules)
    distinct = {tuple(sorted(e.items())) for e in log}
    shown_rows = {e for e in distinct if ("behavior", "impression") in e}
    splits = [plan.split_counts(split) for split in rules.split_names]
    assert plan.counts["rows"] == len(log) and plan.counts["duplicates"] == len(log) - len(distinct)
    of_splits = {name: sum(split[name] for split in splits) for name in ("candidates", "other_events")}
    history = plan.counts["history_impressions"], plan.counts["history_events"]
    assert plan.counts["impressions"] == len(shown_rows) == of_splits["candidates"] + history[0]
    assert plan.counts["other_events"] == len(distinct - shown_rows) == of_splits["other_events"] + history[1]
    early = [e for e in distinct if rules.start is not None and dict(e)["timestamp"] < rules.start]
    assert history == (len(shown_rows.intersection(early)), len(set(early) - shown_rows))


@many
@given(logs(), rules)
def test_what_comes_after_a_border_changes_nothing_before_it(log, rules):
    # The part of the log before a border gives the same examples as the whole, for all splits that end there.
    whole = comparable(examples(log, rules, True))
    for split, end in zip(rules.split_names, rules.split_ends, strict=True):
        if end is not None:
            until = [e for e in log if e["timestamp"] < end]
            assert comparable(examples(until, rules, True))[split] == whole[split]


@many
@given(logs(), rules)
def test_a_longer_moveline_only_adds_older_events(log, rules):
    longer = dataclasses.replace(rules, contract=dataclasses.replace(rules.contract, moveline_length=50))
    for split, made in examples(log, rules, True).items():
        for short, whole in zip(made, examples(log, longer, True)[split], strict=True):
            kept = len(short["moveline_timestamp"])
            assert short["moveline_timestamp"] == whole["moveline_timestamp"][len(whole["moveline_timestamp"]) - kept :]
            assert kept == min(rules.contract.moveline_length, len(whole["moveline_timestamp"]))
