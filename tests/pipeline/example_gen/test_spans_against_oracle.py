"""A log taken span by span, on logs that Hypothesis makes up: against the oracle, and from any history."""

import dataclasses

import pyarrow as pa
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from amen_tf.features import SPAN
from pipeline.example_gen import history
from pipeline.example_gen.history import kept_history
from pipeline.example_gen.moveline import make_plan
from tests.mutants import mutant
from tests.pipeline.example_gen import oracle
from tests.pipeline.example_gen.logs import as_lists, event, make_rules, shown, to_table

SPANS = range(5)
many = settings(max_examples=150, deadline=None, derandomize=True)

common = {"user": st.sampled_from("uv"), "scene": st.sampled_from(["feed", "search"])}
acts = st.builds(
    event, st.integers(0, 11), st.sampled_from(["click", "cart"]), st.sampled_from(["", "i1", "i2"]), **common
)
impressions = st.builds(
    shown,
    st.integers(0, 11),
    st.sampled_from(["i1", "i2", "i3"]),
    st.sampled_from([0, 1]),
    request=st.sampled_from(["", "r1"]),
    **common,
)


@st.composite
def logs(draw, overlap=4):
    """Events with spans of four seconds that overlap by so many on either side."""
    events = []
    for e in draw(st.lists(st.one_of(acts, impressions), max_size=24)):
        span = draw(st.sampled_from(SPANS))
        apart = e["timestamp"] % (4 + 2 * overlap) - overlap
        events.append({**e, "timestamp": 500 + 4 * span + apart, SPAN: span})
    return events + (draw(st.lists(st.sampled_from(events), max_size=2)) if events else [])


rules = st.builds(
    make_rules,
    length=st.integers(1, 3),
    flow=st.integers(1, 3),
    max_candidates=st.integers(1, 3),
    diff_window_hours=st.sampled_from([3 / 3600, 7 / 3600, 24.0]),
    impressions_as_clicks=st.sampled_from(["always", "never"]),
    positive_behaviors=st.sampled_from([("click", "cart"), ("cart",)]),
).map(lambda made: dataclasses.replace(made, split_names=("span",), split_ends=(None,)))


def with_spans(events, rules):
    return to_table(events, rules).append_column(SPAN, pa.array([e[SPAN] for e in events], pa.int64()))


def of_spans(table, first, last):
    spans = table.column(SPAN).to_pylist()
    return table.filter(pa.array([first <= span <= last for span in spans], pa.bool_()))


def carried(table, rules, first, last, depth, kept=kept_history):
    """The history after the span `last`, beginning with nothing before the span `first`."""
    known = table.slice(0, 0)
    for span in range(first, last + 1):
        known = of_spans(pa.concat_tables([known, of_spans(table, span, span)]), span + 1 - depth, span)
        known = kept(known, rules, False)
    return known


def span_examples(known, table, rules, span, until):
    events = pa.concat_tables([known, of_spans(table, span, until)])
    plan = make_plan(events, rules, False, span)
    return as_lists(plan.batch(plan.requests_of("span"))), plan


def texts(examples):
    return sorted(repr(sorted(example.items())) for example in examples)


def check_against_the_oracle(log, rules, depth, future, kept=kept_history, all_is_known=False):
    table = with_spans(log, rules)
    for span in SPANS:
        until = min(span + future, SPANS[-1])
        known = carried(table, rules, 0, span - 1, depth, kept) if depth else table.slice(0, 0)
        found, _ = span_examples(of_spans(known, span - depth, span), table, rules, span, until)
        assert texts(found) == texts(expected(log, rules, span, until, depth, all_is_known))


def expected(log, rules, span, until, depth, all_is_known):
    return oracle.make_span_examples(log, rules, False, span, until, depth, all_is_known)


@many
@given(logs(), rules, st.integers(0, 3), st.integers(0, 2))
def test_spans_with_a_carried_history_give_the_oracles_examples(log, rules, depth, future):
    check_against_the_oracle(log, rules, depth, future)


@many
@given(logs(overlap=0), rules, st.integers(0, 3), st.integers(0, 2))
def test_nothing_is_forgotten_where_spans_do_not_overlap(log, rules, depth, future):
    check_against_the_oracle(log, rules, depth, future, all_is_known=True)


@many
@given(logs(), rules, st.integers(1, 3))
def test_a_history_does_not_show_where_it_began(log, rules, depth):
    table = with_spans(log, rules)
    last = SPANS[-1]
    long, short = (carried(table, rules, first, last, depth) for first in (0, last + 1 - depth))
    assert texts(long.to_pylist()) == texts(short.to_pylist())


@many
@given(logs(overlap=0), rules)
def test_a_history_is_small(log, rules):
    rows = kept_history(with_spans(log, rules), rules, False).to_pylist()
    for user in "uv":
        # L events, two impressions and the first row of their requests.
        assert sum(row["user_id"] == user for row in rows) <= rules.contract.moveline_length + 4


@many
@given(logs(), rules, st.integers(0, 2))
def test_every_row_of_a_span_has_one_fate(log, rules, future):
    table = with_spans(log, rules)
    for span in SPANS:
        _, plan = span_examples(of_spans(table, 0, span - 1), table, rules, span, span + future)
        rows = [tuple(sorted(e.items())) for e in log if e[SPAN] == span]
        shown_rows = {row for row in rows if ("behavior", "impression") in row}
        counts, of_split = plan.counts, plan.split_counts("span")
        assert counts["rows"] == len(rows) and counts["duplicates"] == len(rows) - len(set(rows))
        assert counts["impressions"] == len(shown_rows) == of_split["candidates"]
        assert counts["other_events"] == len(set(rows) - shown_rows) == of_split["other_events"]
        assert counts["history_impressions"] == counts["history_events"] == 0


# A request that goes on while the user acts: its movelines are those of its first row.
A_LONG_REQUEST = [
    {**shown(501, "i1", 0, request="r1"), SPAN: 0},
    {**event(502, "cart", "i2"), SPAN: 0},
    {**shown(503, "i3", 1, request="r1"), SPAN: 0},
    {**shown(505, "i1", 1, request="r1"), SPAN: 1},
]
a_rule = dataclasses.replace(make_rules(impressions_as_clicks="never"), split_names=("span",), split_ends=(None,))


def test_a_request_of_an_earlier_span_begins_where_it_began():
    table = with_spans(A_LONG_REQUEST, a_rule)
    ((example_,), _) = span_examples(carried(table, a_rule, 0, 0, 1), table, a_rule, 1, 1)
    assert example_["diff_clicked_item_id"] == [b"i3"] and example_["diff_clicked_moveline_length"] == [0]
    assert example_["diff_unclicked_item_id"] == [b"i1"] and example_["moveline_item_id"] == [b"i2"]


MISTAKES = {
    "one event too few": ("rules.contract.moveline_length),", "rules.contract.moveline_length - 1),"),
    "no clicked impression": ("        (log.clicked, 1),\n", ""),
    "no first row of a request": (
        "    keep[np.repeat(requests.head, requests.count)[kept]] = True\n",
        "",
    ),
    "spans that overlap": ("found[rows[span[rows] == first]] = last(rows)[span[rows] == first]", "pass"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_makes_a_test_fail(mistake):
    with mutant(history.__name__, *MISTAKES[mistake]) as made:
        # Found is enough: the smallest log that shows the mistake would take minutes.
        @settings(max_examples=600, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
        @example(A_LONG_REQUEST, a_rule, 2, 0)
        @given(logs(), rules, st.integers(1, 3), st.integers(0, 2))
        def check(log, rules, depth, future):
            check_against_the_oracle(log, rules, depth, future, made.kept_history)

        with pytest.raises(AssertionError):
            check()
