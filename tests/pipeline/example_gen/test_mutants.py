"""Mistakes that would leak or lose something are seen by the tests beside this one: each is made, and one must fail."""

import pytest

from pipeline.example_gen import moveline
from tests.mutants import mutant
from tests.pipeline.example_gen import logs, test_against_oracle

MOVELINE, REQUESTS = "pipeline.example_gen.moveline", "pipeline.example_gen.requests"
MISTAKES = {
    "moveline: <= t for < t": (
        MOVELINE,
        "stop = clock.before(events_at, requests.now)",
        "stop = clock.before(events_at, requests.now + 1)",
    ),
    "moveline: one event too many": (
        MOVELINE,
        "stop - rules.contract.moveline_length)",
        "stop - rules.contract.moveline_length - 1)",
    ),
    "moveline: reaches into the user before": (
        MOVELINE,
        "np.maximum(clock.before(events_at, requests.user_begin), stop - rules.contract.moveline_length)",
        "np.maximum(0, stop - rules.contract.moveline_length)",
    ),
    "future: > t for >= t": (
        MOVELINE,
        "future_start = clock.before(future_at, requests.now)",
        "future_start = clock.before(future_at, requests.now + 1)",
    ),
    "future: no border": (
        MOVELINE,
        "future_stop = clock.before(future_at, requests.split_end)",
        "future_stop = clock.before(future_at, requests.user_begin + len(clock.times))",
    ),
    "diff samples: signs swapped": (
        MOVELINE,
        "((features.DIFF_CLICKED, clicked), (features.DIFF_UNCLICKED, impression & ~clicked))",
        "((features.DIFF_UNCLICKED, clicked), (features.DIFF_CLICKED, impression & ~clicked))",
    ),
    "diff samples: at t for before t": (
        REQUESTS,
        "count = clock.before(rows, requests.now)",
        "count = clock.before(rows, requests.now + 1)",
    ),
    "diff samples: no window": (
        REQUESTS,
        "found = count > clock.before(rows, clock.moment(clock.user[requests.head], earliest))",
        "found = count > clock.before(rows, requests.user_begin)",
    ),
    "splits: t <= border for t < border": (
        REQUESTS,
        'first + np.searchsorted(np.array(rules.borders, np.int64), clock.times, side="right")',
        'first + np.searchsorted(np.array(rules.borders, np.int64), clock.times, side="left")',
    ),
    "splits: no start": (
        REQUESTS,
        "first = 0 if rules.start is None else -1",
        "first = 0",
    ),
    "requests: not cut at the border": (
        REQUESTS,
        "group_first[1:] = ~(same_name & (cut[1:] == cut[:-1]))",
        "group_first[1:] = ~same_name",
    ),
    "requests: one candidate too many": (
        REQUESTS,
        "start = np.flatnonzero(place % rules.data.max_candidates == 0)",
        "start = np.flatnonzero(place % (rules.data.max_candidates + 1) == 0)",
    ),
}


def against_the_oracle():
    """All the random logs, until one fails."""
    for block in range(10):
        test_against_oracle.test_random_logs_give_the_oracles_examples(block)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_makes_a_test_fail(mistake, monkeypatch):
    name, right, wrong = MISTAKES[mistake]
    with mutant(name, right, wrong) as made:
        if name == MOVELINE:
            monkeypatch.setattr(logs, "build_examples", made.build_examples)
        else:
            for part in ("Parts", "Requests", "nearest_before"):
                monkeypatch.setattr(moveline, part, getattr(made, part))
        with pytest.raises(AssertionError):
            against_the_oracle()


def test_an_unchanged_copy_passes(monkeypatch):
    with mutant(MOVELINE, "No Beam, no loop over events.", "") as made:
        monkeypatch.setattr(logs, "build_examples", made.build_examples)
        test_against_oracle.test_random_logs_give_the_oracles_examples(0)
