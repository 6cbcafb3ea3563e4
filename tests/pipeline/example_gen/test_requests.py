"""Which examples there are: requests, splits, duplicates and counts on hand-made logs."""

import math

import pytest

from tests.pipeline.example_gen.logs import event, examples, make_rules, only, plan_of, shown


def test_a_shared_request_id_joins_times_and_scenes_at_the_earliest():
    log = [
        shown(30, "b", 0, request="r", scene="search"),
        shown(20, "c", 1, request="r", scene="feed"),
        event(20, "cart", "x"),
        event(25, "cart", "y"),
        event(19, "cart", "w"),
    ]
    made = only(examples(log, make_rules()))
    assert made["timestamp"] == [20] and made["scene"] == [b"feed"]
    assert made["candidate_item_id"] == [b"c", b"b"] and made["label"] == [1, 0]
    assert made["moveline_item_id"] == [b"w"]


def test_the_same_request_id_of_two_users_is_two_requests():
    made = examples([shown(5, "i", 0, request="r", user="a"), shown(5, "i", 0, request="r", user="b")], make_rules())
    assert [e["user_id"] for e in made["stage1"]] == [[b"a"], [b"b"]]


def test_without_an_id_user_scene_and_time_make_a_request():
    log = [
        shown(5, "i1", 0),
        shown(5, "i2", 1),
        shown(5, "i3", 0, scene="search"),
        shown(6, "i4", 0),
        shown(5, "i5", 0, request="r"),
    ]
    made = examples(log, make_rules())["stage1"]
    assert [e["candidate_item_id"] for e in made] == [[b"i1", b"i2"], [b"i5"], [b"i3"], [b"i4"]]


def test_a_request_above_the_limit_is_cut_and_keeps_time_and_moveline():
    log = [shown(10 + n, f"i{n}", n % 2, request="r") for n in range(5)]
    log += [event(9, "cart", "x"), event(12, "cart", "y")]
    rules = make_rules(max_candidates=2)
    made = examples(log, rules)["stage1"]
    assert [e["candidate_item_id"] for e in made] == [[b"i0", b"i1"], [b"i2", b"i3"], [b"i4"]]
    assert [e["label"] for e in made] == [[0, 1], [0, 1], [0]]
    assert {(e["timestamp"][0], *e["moveline_item_id"]) for e in made} == {(10, b"x")}
    assert plan_of(log, rules).counts["requests_above_limit"] == 1


def test_a_request_at_the_limit_stays_whole():
    log = [shown(10, f"i{n}", 0) for n in range(3)]
    made = only(examples(log, make_rules(max_candidates=3)))
    assert made["candidate_item_id"] == [b"i0", b"i1", b"i2"]


def test_candidates_are_ordered_by_item_not_by_label_or_file():
    log = [shown(5, "c", 1), shown(5, "a", 0), shown(5, "b", 1), shown(5, "d", 0)]
    made = only(examples(log, make_rules()))
    assert made["candidate_item_id"] == [b"a", b"b", b"c", b"d"] and made["label"] == [0, 1, 1, 0]


def test_a_request_over_a_border_is_cut_there():
    log = [shown(999, "a", 0, request="r"), shown(1_000, "b", 1, request="r"), event(999, "cart", "x")]
    rules = make_rules()
    made = examples(log, rules)
    assert [(e["timestamp"], e["candidate_item_id"], e["moveline_item_id"]) for e in made["stage1"]] == [
        ([999], [b"a"], [])
    ]
    assert [(e["timestamp"], e["candidate_item_id"], e["moveline_item_id"]) for e in made["stage2"]] == [
        ([1_000], [b"b"], [b"x"])
    ]
    assert plan_of(log, rules).counts["requests_cut_at_border"] == 1


@pytest.mark.parametrize(
    ("time", "split"),
    [(999, "stage1"), (1_000, "stage2"), (1_999, "stage2"), (2_000, "eval"), (2_999, "eval"), (3_000, "test")],
)
def test_a_request_belongs_to_the_first_split_with_t_before_its_end(time, split):
    only(examples([shown(time, "i", 0)], make_rules()), split)


def test_exact_duplicates_are_dropped_and_counted():
    log = [event(5, "cart", "x"), shown(9, "i", 1), event(5, "cart", "x"), shown(9, "i", 1), shown(9, "i", 0)]
    rules = make_rules(impressions_as_clicks="never")
    made = only(examples(log, rules))
    assert made["moveline_item_id"] == [b"x"]
    assert made["candidate_item_id"] == [b"i", b"i"] and made["label"] == [0, 1]
    assert plan_of(log, rules).counts == {
        "rows": 5,
        "duplicates": 2,
        "impressions": 2,
        "other_events": 1,
        "history_impressions": 0,
        "history_events": 0,
        "requests": 1,
        "requests_above_limit": 0,
        "requests_cut_at_border": 0,
    }


def test_rows_that_differ_in_a_declared_feature_are_no_duplicates():
    rules = make_rules(features=[{"name": "price", "owner": "item", "kind": "numeric"}])
    log = [event(5, "cart", "x", price=p) for p in (1.0, 2.0, math.nan, math.nan)] + [shown(9, "i", 0, price=0.0)]
    made = only(examples(log, rules))["moveline_price"]
    assert made[:2] == [1.0, 2.0] and math.isnan(made[2]) and len(made) == 3


def test_an_empty_log_and_a_log_without_impressions_give_no_examples():
    assert not any(examples([], make_rules()).values())
    assert not any(examples([event(5)], make_rules()).values())


def test_the_order_inside_a_split_is_mixed_and_seeded():
    log = [shown(t, "i", 0, user=f"u{t % 7}") for t in range(100, 400)]
    rules = make_rules()
    first, again = plan_of(log, rules), plan_of(log[::-1], rules)
    assert first.requests_of("stage1").tolist() == again.requests_of("stage1").tolist()
    assert first.batch(first.requests_of("stage1")).equals(again.batch(again.requests_of("stage1")))
    times = [t for (t,) in first.batch(first.requests_of("stage1")).column(2).to_pylist()]
    ascending = sum(a < b for a, b in zip(times, times[1:], strict=False))
    assert 120 < ascending < 180 and sorted(times) == list(range(100, 400))
