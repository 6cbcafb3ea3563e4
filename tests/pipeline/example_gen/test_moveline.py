"""What one example holds: each rule on a hand-made log, with the expected values written out."""

import math

import pyarrow as pa
import pytest

from tests.pipeline.example_gen.logs import BORDERS, FEATURES, event, examples, make_rules, only, plan_of, shown


def test_the_whole_example_of_one_request():
    rules = make_rules(features=FEATURES)
    item = {"segment": "", "budget": math.nan, "position": ""}
    u = {"segment": "gold", "budget": 2.5}
    log = [
        event(100, "cart", "i1", category="c1", scene="search", brand="b1", price=9.5, **item),
        event(150, "search", "", brand="", price=math.nan, **item),
        shown(200, "i2", 0, request="r1", category="c2", brand="b2", price=1.0, position="1", **u),
        shown(201, "i3", 1, request="r1", category="", brand="", price=math.nan, position="2", **u),
        event(202, "click", "i3", category="c3", brand="b3", price=3.0, **item),
    ]
    made = only(examples(log, rules))
    assert list(made) == [column.name for column in rules.contract.raw_columns]
    prices = [made.pop(name) for name in ("moveline_price", "candidate_price")]
    assert prices[0][0] == 9.5 and math.isnan(prices[0][1]) and prices[1][0] == 1.0 and math.isnan(prices[1][1])
    assert made == {
        "user_id": [b"u"],
        "request_id": [b"r1"],
        "timestamp": [200],
        "scene": [b"feed"],
        "segment": [b"gold"],
        "budget": [2.5],
        "moveline_item_id": [b"i1", b""],
        "moveline_category_id": [b"c1", b""],
        "moveline_brand": [b"b1", b""],
        "moveline_scene": [b"search", b"feed"],
        "moveline_behavior": [b"cart", b"search"],
        "moveline_timestamp": [100, 150],
        "candidate_item_id": [b"i2", b"i3"],
        "candidate_category_id": [b"c2", b""],
        "candidate_brand": [b"b2", b""],
        "candidate_position": [b"1", b"2"],
        "label": [0, 1],
        "future_item_id": [b"i3"],
        "future_category_id": [b"c3"],
        "future_brand": [b"b3"],
        "future_price": [3.0],
        "diff_clicked_item_id": [],
        "diff_clicked_category_id": [],
        "diff_clicked_brand": [],
        "diff_clicked_price": [],
        "diff_clicked_moveline_length": [],
        "diff_unclicked_item_id": [],
        "diff_unclicked_category_id": [],
        "diff_unclicked_brand": [],
        "diff_unclicked_price": [],
        "diff_unclicked_moveline_length": [],
    }


def test_arrow_kinds_of_the_columns():
    rules = make_rules(features=FEATURES)
    kinds = {"string": pa.binary(), "int": pa.int64(), "float": pa.float32()}
    batch = plan_of([], rules).batch([])
    assert batch.num_rows == 0
    assert batch.schema == pa.schema([(c.name, pa.list_(kinds[c.kind])) for c in rules.contract.raw_columns])


def test_absent_scalars_are_empty_lists():
    rules = make_rules(features=FEATURES)
    made = only(examples([shown(5, "i", 0, segment="", budget=math.nan, brand="", price=math.nan, position="")], rules))
    assert made["request_id"] == made["segment"] == made["budget"] == []
    assert made["candidate_brand"] == made["candidate_position"] == [b""]


# Moveline


def test_the_moveline_holds_events_strictly_before_t():
    log = [shown(50, "i", 0), *(event(t, "cart", f"x{t}") for t in (49, 50, 51))]
    assert only(examples(log, make_rules()))["moveline_item_id"] == [b"x49"]


def test_the_moveline_is_the_last_l_oldest_first_over_all_scenes():
    log = [shown(50, "i", 0), *(event(t, "cart", f"x{t}", scene=f"s{t}") for t in (45, 41, 44, 42, 43))]
    made = only(examples(log, make_rules(length=3)))
    assert made["moveline_timestamp"] == [43, 44, 45]
    assert made["moveline_scene"] == [b"s43", b"s44", b"s45"]


def test_ties_in_time_are_ordered_by_behavior_then_item():
    tied = [event(40, "cart", "b"), event(40, "cart", "a"), event(40, "buy", "z"), event(40, "cart", "a", scene="a")]
    made = only(examples([shown(50, "i", 0), *tied], make_rules()))
    assert made["moveline_behavior"] == [b"buy", b"cart", b"cart", b"cart"]
    assert made["moveline_item_id"] == [b"z", b"a", b"a", b"b"]
    assert made["moveline_scene"] == [b"feed", b"a", b"feed", b"feed"]


def test_other_users_stay_out():
    log = [shown(50, "i", 0, user="b"), *(event(40, "cart", f"of_{u}", user=u) for u in "abc")]
    assert only(examples(log, make_rules()))["moveline_item_id"] == [b"of_b"]


def test_a_user_without_history_is_kept_with_an_empty_moveline_and_counted():
    log = [shown(50, "i", 0), shown(60, "i", 0), event(55, "cart", "x")]
    rules = make_rules()
    assert [e["moveline_item_id"] for e in examples(log, rules)["stage1"]] == [[], [b"x"]]
    assert plan_of(log, rules).split_counts("stage1") == {
        "examples": 2,
        "candidates": 2,
        "clicked": 0,
        "without_history": 1,
        "other_events": 1,
    }


def test_unclicked_impressions_never_enter_and_clicked_ones_enter_as_clicks():
    log = [shown(10, "n", 0), shown(11, "p", 1, scene="live"), shown(50, "i", 0)]
    made = examples(log, make_rules())["stage1"][-1]
    assert made["moveline_item_id"] == [b"p"] and made["moveline_behavior"] == [b"click"]
    assert made["moveline_scene"] == [b"live"] and made["moveline_timestamp"] == [11]


@pytest.mark.parametrize(("choice", "moveline"), [("auto", [b"x"]), ("never", [b"x"]), ("always", [b"p", b"x"])])
def test_impressions_as_clicks_when_the_log_has_clicks(choice, moveline):
    log = [shown(10, "p", 1), event(12, "click", "x"), shown(50, "i", 0)]
    made = examples(log, make_rules(impressions_as_clicks=choice))["stage1"][-1]
    assert made["moveline_item_id"] == moveline


def test_a_positive_impression_is_not_in_its_own_moveline():
    assert only(examples([shown(50, "i", 1)], make_rules()))["moveline_item_id"] == []


# Future items


def test_future_items_are_the_next_t_positive_ones_from_t_on():
    log = [
        shown(50, "i", 0),
        event(49, "click", "before"),
        event(50, "click", "at_t"),
        event(51, "visit", "not_positive"),
        event(52, "cart", ""),
        event(53, "cart", "second"),
        event(54, "purchase", "third"),
        event(55, "purchase", "too_many"),
        event(51, "click", "of_another", user="v"),
    ]
    assert only(examples(log, make_rules(flow=3)))["future_item_id"] == [b"at_t", b"second", b"third"]


def test_the_clicked_candidate_is_the_first_future_item():
    made = only(examples([shown(50, "a", 0), shown(50, "b", 1)], make_rules()))
    assert made["future_item_id"] == [b"b"]
    with_click_rows = [shown(50, "a", 0), shown(50, "b", 1), event(50, "click", "b"), event(60, "cart", "c")]
    assert only(examples(with_click_rows, make_rules()))["future_item_id"] == [b"b", b"c"]


def test_an_impression_that_enters_as_a_click_is_positive_only_if_clicks_are():
    log = [shown(50, "a", 1), event(51, "purchase", "b")]
    made = only(examples(log, make_rules(positive_behaviors=["purchase"])))
    assert made["future_item_id"] == [b"b"]


@pytest.mark.parametrize(
    ("time", "split", "future"),
    [
        (990, "stage1", [b"x999"]),
        (1_990, "stage2", [b"x1999"]),
        (2_990, "eval", [b"x2999"]),
        (3_990, "test", [b"x3999", b"x4000"]),
    ],
)
def test_futures_end_before_the_end_of_the_split(time, split, future):
    border = time + 10
    log = [shown(time, "i", 0), event(border - 1, "cart", f"x{border - 1}"), event(border, "cart", f"x{border}")]
    assert only(examples(log, make_rules()), split)["future_item_id"] == future


def test_with_one_window_futures_reach_to_train_end():
    log = [shown(990, "i", 0), event(1_999, "cart", "in"), event(2_000, "cart", "out")]
    rules = make_rules(split={**BORDERS, "stage1_end": None})
    assert only(examples(log, rules), "train")["future_item_id"] == [b"in"]


# Diff samples


def test_diff_samples_are_the_nearest_earlier_clicked_and_unclicked():
    log = [
        event(5, "cart", "e1"),
        shown(10, "old", 1),
        event(15, "cart", "e2"),
        shown(20, "clicked", 1, category="c"),
        shown(20, "unclicked", 0),
        event(20, "cart", "e3"),
        event(25, "cart", "e4"),
        shown(30, "i", 0),
        shown(30, "j", 1),
        shown(31, "later", 1),
        event(1, "click", "logged"),
    ]
    made = examples(log, make_rules(length=10))["stage1"][-2]
    assert made["timestamp"] == [30]
    assert made["moveline_item_id"] == [b"logged", b"e1", b"e2", b"e3", b"e4"]
    assert made["diff_clicked_item_id"] == [b"clicked"] and made["diff_clicked_category_id"] == [b"c"]
    assert made["diff_unclicked_item_id"] == [b"unclicked"] and made["diff_unclicked_category_id"] == []
    # Strictly before 20: logged, e1, e2.
    assert made["diff_clicked_moveline_length"] == made["diff_unclicked_moveline_length"] == [3]


def test_diff_length_counts_only_the_stored_events():
    log = [event(t, "cart", f"x{t}") for t in (1, 2, 3, 12, 13)] + [shown(10, "d", 1), shown(20, "i", 0)]
    log.append(event(0, "click", "logged"))
    made = examples(log, make_rules(length=4))["stage1"][-1]
    assert made["moveline_item_id"] == [b"x2", b"x3", b"x12", b"x13"]
    assert made["diff_clicked_moveline_length"] == [2]
    made = examples(log, make_rules(length=2))["stage1"][-1]
    assert made["diff_clicked_moveline_length"] == [0]


def test_diff_length_is_that_of_the_samples_request_not_of_its_own_time():
    log = [
        shown(10, "first", 0, request="r"),
        event(12, "cart", "between"),
        event(5, "cart", "before"),
        shown(15, "late", 1, request="r"),
        event(1, "click", "logged"),
        shown(20, "i", 0),
    ]
    made = examples(log, make_rules())["stage1"][-1]
    assert made["diff_clicked_item_id"] == [b"late"]
    assert made["moveline_item_id"] == [b"logged", b"before", b"between"]
    assert made["diff_clicked_moveline_length"] == [2]


@pytest.mark.parametrize(("back", "found"), [(3_600, [b"d"]), (3_601, [])])
def test_the_diff_window_is_inclusive(back, found):
    rules = make_rules(diff_window_hours=1, split={"stage1_end": None, "train_end": 10_000, "eval_end": 20_000})
    made = examples([shown(9_000 - back, "d", 1), shown(9_000, "i", 0)], rules)["train"][-1]
    assert made["diff_clicked_item_id"] == found


def test_impressions_of_the_same_time_or_request_are_no_diff_samples():
    log = [shown(10, "a", 1, request="r"), shown(10, "b", 0, scene="search"), shown(12, "c", 0, request="r")]
    made = examples(log, make_rules())["stage1"]
    assert [e["diff_clicked_item_id"] + e["diff_unclicked_item_id"] for e in made] == [[], []]


def test_a_diff_sample_of_the_earlier_split_is_history():
    made = examples([shown(999, "d", 1), shown(1_000, "i", 0)], make_rules())
    assert only({**made, "stage1": []}, "stage2")["diff_clicked_item_id"] == [b"d"]


def test_diff_samples_of_other_users_stay_out():
    made = examples([shown(10, "d", 1, user="a"), shown(20, "i", 0, user="b")], make_rules())["stage1"]
    assert made[1]["diff_clicked_item_id"] == []
