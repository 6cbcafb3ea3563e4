"""The stage on a log in daily files: what it makes of a window, and what it need not make again a day later."""

import dataclasses
import datetime as dt
import json
import pathlib
import random
import shutil

import pytest

from amen_tf.features import SPAN
from pipeline.event_log.errors import EventLogError
from pipeline.example_gen import executor, steps
from pipeline.example_gen.span_plan import future_reach
from tests.pipeline.example_gen import oracle
from tests.pipeline.example_gen.logs import FEATURES, comparable, event, make_rules, shown
from tests.pipeline.example_gen.test_executor import content, do, read_examples, write_csv

DAY, FIRST = 86_400, 20_000
COUNTS = {"history": 2, "future": 1, "stage1": 2, "stage2": 2, "eval": 1, "test": 1}


def date(span):
    return dt.date(1970, 1, 1) + dt.timedelta(days=span)


def of_day(span, users="uvw"):
    """Events of one day, some of them up to an hour late or early, some rows twice."""
    rng = random.Random(span)
    events = []
    for _ in range(40):
        time = span * DAY + rng.choice([-1800, 5, 7, 7, 11, 40_000, 80_000, DAY + 600])
        common = {"user": rng.choice(users), "scene": rng.choice(["feed", "search"])}
        if rng.random() < 0.5:
            events.append(event(time, rng.choice(["cart", "search"]), f"i{rng.randrange(9)}", **common))
        else:
            request = rng.choice(["", "r"])
            events.append(shown(time, f"i{rng.randrange(9)}", rng.randrange(2), request=request, **common))
    return events + events[:2]


class Log:
    """Daily CSV files in a folder, and the stage run on them with a store beside them."""

    def __init__(self, folder, **data):
        self.folder, self.data, self.runs = folder, data, 0
        self.pattern = f"{folder}/days/{{YYYY}}-{{MM}}-{{DD}}.csv"
        self.store = folder / "store"
        (folder / "days").mkdir(parents=True)

    def write(self, span, events=None):
        write_csv(self.folder / "days" / f"{date(span)}.csv", of_day(span) if events is None else events)

    def rules(self, newest, counts=None, **data):
        counts = {**COUNTS, **(counts or {}), "newest": date(newest)}
        data = {"log": self.pattern, "impressions_as_clicks": "always", "max_candidates": 3, **self.data, **data}
        return make_rules(split={"spans": counts}, **data)

    def run(self, newest, counts=None, store="store", code="code", **data):
        """Folder and rules of a run whose newest span is `newest`."""
        self.runs += 1
        rules, folder = self.rules(newest, counts, **data), self.folder / f"out-{self.runs}"
        do(self.pattern, rules, folder, code=code, store=store and str(self.folder / store))
        return folder, rules


@pytest.fixture
def log(tmp_path):
    made = Log(tmp_path)
    for span in range(FIRST, FIRST + 9):
        made.write(span)
    return made


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that were read, one list for each run of Beam."""
    runs = []
    real = executor._add_steps

    def counted(pipeline, files, *rest):
        runs.append([pathlib.Path(path).stem for path, _ in files])
        real(pipeline, files, *rest)

    monkeypatch.setattr(executor, "_add_steps", counted)
    return runs


def names(*spans):
    return [str(date(FIRST + span)) for span in spans]


def expected(rules, spans, events=of_day):
    """The oracle's examples of a window that ends with the span `spans[-1]`."""
    log = [{**e, SPAN: span} for span in range(FIRST, FIRST + 20) for e in events(span)]
    one, made = rules.of_one_span, {}
    for split, of in spans.items():
        # Stage 2 and test have no use for what comes after a span.
        future = rules.spans.future if split in ("stage1", "eval") else 0
        made[split] = [
            example
            for span in of
            for example in oracle.make_span_examples(
                log, one, True, span, min(span + future, of[-1]), rules.spans.history
            )
        ]
    return made


def window(newest):
    return {
        "stage1": range(newest - 5, newest - 3),
        "stage2": range(newest - 3, newest - 1),
        "eval": range(newest - 1, newest),
        "test": range(newest, newest + 1),
    }


def test_a_window_has_the_oracles_examples_and_so_has_the_next(log):
    for newest in (FIRST + 7, FIRST + 8):
        folder, rules = log.run(newest)
        found = read_examples(folder, rules)
        assert comparable(found) == comparable(expected(rules, window(newest)))
        # Future items reach into the next span of the split, and not beyond the split.
        assert any(example["future_item_id"] for example in found["stage1"])


def test_a_day_costs_a_day(log, opened):
    log.run(FIRST + 7)
    # Two days of history, and the window.
    assert opened == [names(*range(8))]
    moved, rules = log.run(FIRST + 8)
    # What is new, and the day before, whose future items may now lie in it.
    assert opened[1:] == [names(7, 8)]
    fresh, _ = log.run(FIRST + 8, store="another")
    assert len(opened) == 3 and opened[2] == names(*range(1, 9))
    assert read_examples(moved, rules) == read_examples(fresh, rules)
    assert json.loads((moved / "report.json").read_text()) == json.loads((fresh / "report.json").read_text())
    # The same window again, and without a store.
    log.run(FIRST + 8)
    assert len(opened) == 3
    alone, _ = log.run(FIRST + 8, store=None)
    assert content(alone) == content(fresh)


@pytest.mark.parametrize("future", [0, 2])
def test_the_future_decides_how_much_is_read_again(log, opened, future):
    log.run(FIRST + 7, {"future": future})
    moved, rules = log.run(FIRST + 8, {"future": future})
    assert opened[1:] == [names(*range(8 - future, 9))]
    assert comparable(read_examples(moved, rules)) == comparable(expected(rules, window(FIRST + 8)))


def test_windows_may_lie_apart_and_begin_without_history(log, opened):
    log.run(FIRST + 6)
    moved, rules = log.run(FIRST + 8)
    assert opened[1:] == [names(6, 7, 8)]
    assert comparable(read_examples(moved, rules)) == comparable(expected(rules, window(FIRST + 8)))
    none, rules = log.run(FIRST + 8, {"history": 0})
    assert comparable(read_examples(none, rules)) == comparable(expected(rules, window(FIRST + 8)))


def test_changed_files_are_read_again_with_all_that_depends_on_them(log, opened):
    log.run(FIRST + 7)
    log.write(FIRST + 5, of_day(FIRST + 5)[:-6])

    def changed(span):
        return of_day(span)[:-6] if span == FIRST + 5 else of_day(span)

    moved, rules = log.run(FIRST + 8)
    assert comparable(read_examples(moved, rules)) == comparable(expected(rules, window(FIRST + 8), changed))
    # From the day whose future items may lie in it on, with two days of history.
    assert opened[1:] == [names(*range(2, 9))]


def test_a_newest_day_that_changes_is_read_again_without_its_history(log, opened):
    log.run(FIRST + 7)
    log.run(FIRST + 8)
    log.write(FIRST + 8, of_day(FIRST + 8)[:-6])
    moved, rules = log.run(FIRST + 8)
    assert opened[2:] == [names(7, 8)]
    changed = expected(rules, window(FIRST + 8), lambda span: of_day(span)[: -6 if span == FIRST + 8 else None])
    assert comparable(read_examples(moved, rules)) == comparable(changed)


def test_other_rules_or_code_make_everything_anew(log, opened):
    log.run(FIRST + 7)
    log.run(FIRST + 7, code="other code")
    log.run(FIRST + 7, positive_behaviors=["search"])
    assert len(opened) == 3 and opened[1] == opened[2] == opened[0]


def test_the_number_of_shards_changes_no_example(log):
    log.run(FIRST + 7, user_shards=2)
    moved, rules = log.run(FIRST + 8, user_shards=5)
    assert comparable(read_examples(moved, rules)) == comparable(expected(rules, window(FIRST + 8)))


def test_the_store_keeps_what_the_next_window_needs_and_no_more(log):
    log.run(FIRST + 7)
    (log.store / "notes.txt").write_text("Mine.")
    (log.store / str(FIRST + 2) / "notes.txt").write_text("Mine.")
    log.run(FIRST + 8)
    log.run(FIRST + 8)
    kept = sorted(int(path.name) for path in log.store.iterdir() if path.name.isdigit())
    assert kept == [FIRST + span for span in range(2, 9)]
    kinds = {str(span): sorted(p.name.split("-")[0] for p in (log.store / str(span)).iterdir()) for span in kept}
    assert kinds.pop(str(FIRST + 2)) == ["notes.txt"] and (log.store / "notes.txt").exists()
    assert not list((log.store / "_unfinished").iterdir())
    # With and without the next day's future items; the newest has no next day yet.
    assert kinds[str(FIRST + 8)] == ["examples"] and kinds[str(FIRST + 5)] == ["examples", "examples"]
    # From here goes on the next window, and this one if its newest day changes.
    assert [span for span, of in kinds.items() if "history" in of] == [str(FIRST + 6), str(FIRST + 7)]


def test_what_was_cut_off_is_made_again(log, opened, monkeypatch):
    def dies(plan, split):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(steps, "encoded", dies)
        with pytest.raises(Exception, match="no space left"):
            log.run(FIRST + 7)
    folder, rules = log.run(FIRST + 7)
    assert comparable(read_examples(folder, rules)) == comparable(expected(rules, window(FIRST + 7)))


def test_the_report_is_of_the_window_whoever_read_it(log):
    bad = {"user_id": "", "timestamp": FIRST * DAY, "scene": "feed", "behavior": "cart", "item_id": "i", "label": -1}
    log.write(FIRST + 5, [*of_day(FIRST + 5), {**of_day(FIRST + 5)[0], **bad}])
    log.data = {"bad_rows": "quarantine"}
    for newest in (FIRST + 7, FIRST + 8):
        folder, _ = log.run(newest)
        report = json.loads((folder / "report.json").read_text())
        rows, of = report["rows"], range(newest - 5, newest + 1)
        assert rows["read"] == sum(len(of_day(span)) for span in of) + 1 and rows["quarantined"] == 1
        assert rows["duplicates"] == sum(
            len(of_day(span)) - len({tuple(e.items()) for e in of_day(span)}) for span in of
        )
        assert rows["read"] == rows["quarantined"] + rows["duplicates"] + rows["used"]
        assert sum(split["candidates"] for split in report["splits"].values()) == rows["impressions"]
        assert "history_impressions" not in rows
        quarantined = (folder / "quarantine.csv").read_text().splitlines()
        assert len(quarantined) == 2 and f"{date(FIRST + 5)}.csv" in quarantined[1]
    # A window without the bad row has no quarantine.
    for span in (9, 10, 11):
        log.write(FIRST + span)
    folder, _ = log.run(FIRST + 11)
    assert not (folder / "quarantine.csv").exists()


def test_bad_rows_that_stop_the_run_stop_it_again(log):
    log.write(FIRST + 6, [*of_day(FIRST + 6), {**of_day(FIRST + 6)[0], "user_id": ""}])
    for _ in range(2):
        with pytest.raises(EventLogError, match="1 of .* rows of the event log break its rules"):
            log.run(FIRST + 7)


def test_a_share_of_bad_rows_is_one_of_the_window(log):
    log.data = {"bad_rows": "quarantine", "max_bad_share": 0.012}
    log.run(FIRST + 7)
    # Two of this day's rows, and of what is read for it, are more than that; of the window they are fewer.
    broken = [{**e, "user_id": ""} for e in of_day(FIRST + 8)[:2]]
    log.write(FIRST + 8, [*of_day(FIRST + 8)[2:], *broken])
    folder, _ = log.run(FIRST + 8)
    assert json.loads((folder / "report.json").read_text())["rows"]["quarantined"] == 2
    # Bad rows of days that are not read any more are shown too.
    for span in (9, 10):
        log.write(FIRST + span, [*of_day(FIRST + span), {**of_day(FIRST + span)[0], "user_id": ""}])
    log.run(FIRST + 9)
    with pytest.raises(EventLogError, match=rf"4 of 254 rows.*(?s:.*){date(FIRST + 8)}.csv, row 41.*no user"):
        log.run(FIRST + 10)


def test_the_report_says_whether_clicks_are_logged(log):
    folder, _ = log.run(FIRST + 7)
    assert not json.loads((folder / "report.json").read_text())["clicks_are_logged"]
    log.write(FIRST + 5, [*of_day(FIRST + 5), event((FIRST + 5) * DAY, "click")])
    for newest in (FIRST + 7, FIRST + 8):
        folder, _ = log.run(newest, impressions_as_clicks="never")
        report = json.loads((folder / "report.json").read_text())
        assert report["clicks_are_logged"] and not report["impressions_enter_as_clicks"]


def test_heavy_users_are_cut_by_the_day(log):
    folder, _ = log.run(FIRST + 7, max_user_rows=5)
    report = json.loads((folder / "report.json").read_text())
    # Three users, six days.
    assert report["rows"]["used"] + report["rows"]["duplicates"] <= 3 * 6 * 5
    assert report["rows"]["above_user_limit"] == report["rows"]["read"] - (
        report["rows"]["used"] + report["rows"]["duplicates"]
    )


def test_tables_are_joined_and_a_changed_one_changes_the_examples(log, opened):
    brand = {"name": "brand", "owner": "item", "kind": "categorical", "source": "table"}
    table = log.folder / "items.csv"
    table.write_text("item_id,brand\ni1,x\n")
    log.data = {"features": [brand], "item_table": str(table)}
    folder, rules = log.run(FIRST + 7)
    report = json.loads((folder / "report.json").read_text())
    of = [e for span in range(FIRST + 2, FIRST + 8) for e in of_day(span)]
    assert report["tables"]["rows_without_item"] == sum(e["item_id"] != "i1" for e in of)
    for example in read_examples(folder, rules)["test"]:
        items = example["moveline_item_id"]
        assert example["moveline_brand"] == [b"x" if item == b"i1" else b"" for item in items]
    table.write_text("item_id,brand\ni1,yy\n")
    again, _ = log.run(FIRST + 7)
    assert opened[1] == opened[0]
    assert {b for e in read_examples(again, rules)["test"] for b in e["moveline_brand"]} <= {b"yy", b""}


def test_declared_features_come_through_the_history(tmp_path):
    made = Log(tmp_path, features=list(FEATURES))

    def day(span):
        rng = random.Random(span)
        values = {"segment": "s", "budget": 1.5, "brand": "b", "position": "p"}
        return [{**e, **values, "price": rng.choice([0.5, float("nan")])} for e in of_day(span)]

    for span in range(FIRST, FIRST + 9):
        made.write(span, day(span))
    made.run(FIRST + 7)
    moved, rules = made.run(FIRST + 8)
    assert comparable(read_examples(moved, rules)) == comparable(expected(rules, window(FIRST + 8), day))


def test_files_say_which_span_they_are_of(log):
    folder, _ = log.run(FIRST + 7)
    parts = json.loads((folder / executor.SPANS_FILE).read_text())
    assert {split: [part["span"] for part in of] for split, of in parts.items()} == {
        split: list(of) for split, of in window(FIRST + 7).items()
    }
    for split, of in parts.items():
        files = {path.name for path in (folder / f"Split-{split}").iterdir()}
        assert {name for part in of for name in files if name.startswith(part["files"])} == files


def test_a_store_on_another_file_system_is_copied_from(log, monkeypatch):
    def refuse(*_):
        raise OSError("Invalid cross-device link")

    linked, _ = log.run(FIRST + 7)
    monkeypatch.setattr(executor.os, "link", refuse)
    copied, _ = log.run(FIRST + 7)
    files = content(copied)
    assert content(linked) == files
    # The store may be deleted: the examples are names of their own for the same files, or copies.
    shutil.rmtree(log.store)
    assert content(linked) == content(copied) == files


def test_rules_must_be_settled(log):
    with pytest.raises(ValueError, match="spans.newest to be named"):
        log.rules(FIRST + 7, impressions_as_clicks="auto")
    rules = log.rules(FIRST + 7)
    with pytest.raises(ValueError, match="Expected the splits .*'stage1', 'stage2'.*got"):
        dataclasses.replace(rules, split_names=("train", "eval", "test"))


def test_a_split_without_requests_is_named_with_its_spans(log):
    log.write(FIRST + 6, [event((FIRST + 6) * DAY, "cart")])
    with pytest.raises(EventLogError, match="got none in eval .*before and with 2024-10-11 are: .*eval 1"):
        log.run(FIRST + 7)


def test_future_items_reach_as_far_as_the_generators_split():
    splits = {"vocabulary": range(2), "stage1": range(2, 4), "stage2": range(4, 6), "eval": range(6, 8)}
    splits["test"] = range(8, 9)
    assert future_reach(splits, 1) == {0: 1, 1: 2, 2: 3, 3: 3, 4: 4, 5: 5, 6: 7, 7: 7, 8: 8}
    assert future_reach(splits, 3) == {0: 3, 1: 3, 2: 3, 3: 3, 4: 4, 5: 5, 6: 7, 7: 7, 8: 8}
    assert future_reach({"train": range(3), "eval": range(3, 4), "test": range(4, 5)}, 1) == {
        0: 1,
        1: 2,
        2: 2,
        3: 3,
        4: 4,
    }
