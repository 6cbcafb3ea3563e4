"""Nothing after a request's time reaches its inputs, and nothing after its split's end reaches its labels."""

import random

import pytest

from tests.pipeline.example_gen.logs import (
    BORDERS,
    FEATURES,
    comparable,
    event,
    examples,
    make_rules,
    random_events,
    shown,
)

RULES = make_rules(features=FEATURES, impressions_as_clicks="always", max_candidates=3)
EMPTY = {"segment": "", "budget": 0.0, "brand": "", "price": 0.0, "position": ""}


def strange(rng, time):
    """Events of the log's own users at `time`: acts, impressions of both labels, a request id that is in use."""
    for user in ("u0", "u1", "u2", "u3"):
        yield event(time, rng.choice(["click", "cart"]), "planted", user=user, **EMPTY)
        yield shown(time, "planted", 1, user=user, request=f"r{rng.randrange(3)}", **EMPTY)
        yield shown(time, "planted", 0, user=user, **EMPTY)


@pytest.mark.parametrize("border", sorted(BORDERS.values()))
@pytest.mark.parametrize("after", [0, 1, 50])
def test_events_planted_at_or_after_a_border_change_no_earlier_example(border, after):
    earlier = [name for name, end in zip(RULES.split_names, RULES.split_ends, strict=True) if end and end <= border]
    for seed in range(6):
        rng = random.Random(seed)
        events = random_events(rng, RULES, 60)
        before = examples(events, RULES, True)
        planted = examples([*events, *strange(rng, border + after)], RULES, True)
        assert sum(len(before[split]) for split in earlier) > 3
        for split in earlier:
            assert comparable(planted)[split] == comparable(before)[split], f"seed {seed}"


def test_events_planted_at_or_after_t_change_no_input_of_the_request():
    inputs = [c.name for c in RULES.contract.raw_columns if c.name.startswith(("moveline_", "diff_"))]
    for seed in range(20):
        rng = random.Random(seed)
        events = random_events(rng, RULES, 60)
        time = rng.choice([e["timestamp"] for e in events if e["behavior"] == "impression"])
        planted = [*events, *strange(rng, time)]

        def inputs_up_to_now(log, now=time):
            # Pieces of one request share a key and their inputs; candidates may join it, inputs may not change.
            return {
                (*e["user_id"], *e["request_id"], *e["scene"], *e["timestamp"]): repr([e[name] for name in inputs])
                for made in examples(log, RULES, True).values()
                for e in made
                if e["timestamp"][0] <= now
            }

        before, after = inputs_up_to_now(events), inputs_up_to_now(planted)
        assert before
        assert {key: after.get(key) for key in before} == before, f"seed {seed}"


def test_movelines_end_before_t_and_futures_before_the_end_of_the_split():
    ends = dict(zip(RULES.split_names, RULES.split_ends, strict=True))
    for seed in range(20):
        rng = random.Random(seed)
        # The item says when it was acted on, so that a future can be dated.
        events = [{**e, "item_id": f"at{e['timestamp']}"} for e in random_events(rng, RULES, 80)]
        for split, made in examples(events, RULES, True).items():
            for example in made:
                (t,) = example["timestamp"]
                assert all(time < t for time in example["moveline_timestamp"])
                assert all(int(item[2:]) < t for item in example["moveline_item_id"])
                times = [int(item[2:]) for item in example["future_item_id"]]
                assert all(t <= time and (ends[split] is None or time < ends[split]) for time in times)
                labelled = [int(item[2:]) for item in example["candidate_item_id"]]
                assert all(t <= time and (ends[split] is None or time < ends[split]) for time in labelled)
                for prefix in ("diff_clicked_", "diff_unclicked_"):
                    assert all(int(item[2:]) < t for item in example[prefix + "item_id"])
                    for length in example[prefix + "moveline_length"]:
                        assert 0 <= length <= len(example["moveline_item_id"])
