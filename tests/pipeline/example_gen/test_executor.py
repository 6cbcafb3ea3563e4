"""The stage on real files: through TFX's runner with its cache, and `Do` alone for what it writes and refuses."""

import csv
import datetime
import glob
import json
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local import local_dag_runner
from tfx.types import standard_artifacts
from tfx_bsl.coders import example_coder

from pipeline.event_log import units
from pipeline.event_log.errors import EventLogError
from pipeline.example_gen import shuffle
from pipeline.example_gen.component import MovelineExampleGen
from pipeline.example_gen.executor import MovelineExampleGenExecutor
from tests.pipeline.artifacts import artifact
from tests.pipeline.example_gen import oracle
from tests.pipeline.example_gen.logs import FEATURES, comparable, event, make_rules, random_events, shown
from tests.pipeline.records import example, write_tfrecord

# The reader refuses times before 1990.
START = 1_700_000_000
BORDERS = {"stage1_end": START + 1_000, "train_end": START + 2_000, "eval_end": START + 3_000}


def rules_of_files(**settings):
    return make_rules(split=BORDERS, **settings)


def make_log(rules, size=300):
    """A random log around the borders of `rules`."""
    # The shared logs cluster on the small borders; here they are moved to the present.
    small = make_rules(features=[f.model_dump() for f in rules.data.features])
    return [{**e, "timestamp": e["timestamp"] + START} for e in random_events(random.Random(3), small, size)]


def as_file(events):
    return [{**e, "label": "" if e["label"] < 0 else e["label"]} for e in events]


def write_csv(path, events):
    rows = [{k: "" if v != v else v for k, v in e.items()} for e in as_file(events)]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path, events):
    rows = [{**e, "label": None if e["label"] < 0 else e["label"]} for e in events]
    pq.write_table(pa.Table.from_pylist(rows), path)


def do(log, rules, folder, beam_args=(), code="code", store=None):
    """Runs the executor and returns the artifact."""
    made = artifact(standard_artifacts.Examples, folder)
    context = MovelineExampleGenExecutor.Context(beam_pipeline_args=list(beam_args), tmp_dir=str(folder))
    stage = MovelineExampleGen(str(log), rules, code, store)
    MovelineExampleGenExecutor(context).Do({}, {"examples": [made]}, dict(stage.exec_properties))
    return made


def read_examples(folder, rules):
    """Split -> examples as dictionaries, in the order of the files."""
    kinds = {c.name: c.kind for c in rules.contract.raw_columns}
    made = {}
    for split in rules.split_names:
        files = sorted(glob.glob(f"{folder}/Split-{split}/*"))
        records = [r.numpy() for r in tf.data.TFRecordDataset(files, compression_type="GZIP")]
        batch = example_coder.ExamplesToRecordBatchDecoder().DecodeBatch(records)
        # tfx_bsl cannot tell the type of a column that is empty throughout.
        columns = {n: batch.column(i).to_pylist() for i, n in enumerate(batch.schema.names)}
        made[split] = [{name: columns[name][row] or [] for name in kinds} for row in range(len(records))]
    return made


def content(folder):
    """Relative path -> bytes of every file below a folder."""
    found = glob.glob(f"{folder}/**", recursive=True)
    return {os.path.relpath(p, folder): open(p, "rb").read() for p in found if os.path.isfile(p)}


def run_pipeline(log, rules, root, code="code"):
    """Runs the stage through TFX; returns the folders of all its examples so far."""
    stages = pipeline.Pipeline(
        pipeline_name="test",
        pipeline_root=str(root),
        components=[MovelineExampleGen(str(log), rules, code)],
        enable_cache=True,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(f"{root}/metadata.db"),
    )
    local_dag_runner.LocalDagRunner().run(stages)
    return sorted(glob.glob(f"{root}/MovelineExampleGen/examples/*"), key=lambda p: int(os.path.basename(p)))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_pipeline_writes_the_oracles_examples_and_caches_them_until_the_log_changes(tmp_path, kind):
    rules = rules_of_files(features=FEATURES, max_candidates=3)
    events = make_log(rules)
    log = tmp_path / f"log.{kind}"
    write = write_csv if kind == "csv" else write_parquet
    write(log, events)
    (tmp_path / "root").mkdir()

    (first,) = run_pipeline(log, rules, tmp_path / "root")
    clicks = any(e["behavior"] == "click" for e in events)
    expected = oracle.make_examples(events, rules, clicks)
    assert comparable(read_examples(first, rules)) == comparable(expected)
    assert run_pipeline(log, rules, tmp_path / "root") == [first]

    # An edit of the same size in the same second, which TFX's own fingerprint does not see.
    time = os.stat(log).st_mtime_ns
    log.write_bytes(log.read_bytes().replace(b"i1", b"i5"))
    os.utime(log, ns=(time, time // 10**9 * 10**9 + (time + 1) % 10**9))
    assert len(run_pipeline(log, rules, tmp_path / "root")) == 2


def test_tfrecords_give_the_same_files_as_csv(tmp_path):
    rules = rules_of_files(features=FEATURES)
    events = make_log(rules)
    write_csv(tmp_path / "log.csv", events)
    there = [{k: v for k, v in e.items() if v == v and v != "" and (k, v) != ("label", -1)} for e in events]
    write_tfrecord(tmp_path / "log.tfrecord.gz", [example(**e) for e in there])
    do(tmp_path / "log.csv", rules, tmp_path / "of_csv")
    do(tmp_path / "log.tfrecord.gz", rules, tmp_path / "of_tfrecord")
    assert content(tmp_path / "of_tfrecord") == content(tmp_path / "of_csv")


def test_the_artifact_is_what_tfx_expects(tmp_path):
    rules = rules_of_files()
    write_csv(tmp_path / "log.csv", make_log(rules))
    artifact = do(tmp_path / "log.csv", rules, tmp_path / "out")
    assert json.loads(artifact.split_names) == list(rules.split_names)
    assert artifact.get_string_custom_property("payload_format") == "FORMAT_TF_EXAMPLE"
    assert artifact.get_string_custom_property("file_format") == "tfrecords_gzip"
    assert sorted(os.listdir(tmp_path / "out")) == [*(f"Split-{s}" for s in sorted(rules.split_names)), "report.json"]
    for split in rules.split_names:
        names = [f"data_tfrecord-{n:05d}-of-00003.gz" for n in range(3)]
        assert sorted(os.listdir(tmp_path / "out" / f"Split-{split}")) == names


def test_the_same_bytes_on_every_run_from_one_file_or_many_in_any_order(tmp_path):
    rules = rules_of_files(features=FEATURES)
    events = make_log(rules)
    write_csv(tmp_path / "log.csv", events)
    do(tmp_path / "log.csv", rules, tmp_path / "first")
    do(tmp_path / "log.csv", rules, tmp_path / "second")
    expected = content(tmp_path / "first")
    assert len(expected) == 13 and content(tmp_path / "second") == expected

    random.Random(5).shuffle(events)
    (tmp_path / "many" / "deep").mkdir(parents=True)
    for number, start in enumerate(range(0, len(events), 90)):
        folder = "many/deep" if number % 2 else "many"
        write_parquet(tmp_path / folder / f"part-{number}.parquet", events[start : start + 90])
    do(tmp_path / "many", rules, tmp_path / "third")
    assert content(tmp_path / "third") == expected


def test_the_number_of_shards_changes_no_example(tmp_path):
    events = make_log(rules_of_files())
    write_csv(tmp_path / "log.csv", events)
    made = []
    for shards in (1, 7):
        rules = rules_of_files(user_shards=shards)
        do(tmp_path / "log.csv", rules, tmp_path / f"out{shards}")
        made.append(comparable(read_examples(tmp_path / f"out{shards}", rules)))
    assert made[0] == made[1]


def test_rows_may_go_through_the_runner_or_through_files(tmp_path, monkeypatch):
    rules = rules_of_files(features=FEATURES)
    write_csv(tmp_path / "log.csv", make_log(rules))
    do(tmp_path / "log.csv", rules, tmp_path / "files")
    monkeypatch.setattr(shuffle, "keeps_shuffles_in_memory", lambda options: False)
    monkeypatch.setattr(shuffle, "Spill", None)
    do(tmp_path / "log.csv", rules, tmp_path / "runner")
    assert content(tmp_path / "files") == content(tmp_path / "runner")


def test_a_user_above_the_limit_keeps_the_newest_rows_and_the_report_says_so(tmp_path):
    rules = rules_of_files(max_user_rows=3)
    bot = [event(START + n, "cart", f"x{n}", user="bot") for n in range(6)]
    bot += [shown(START + 1_500, "seen", 1, user="bot")]
    times = [*(border - 1 for border in BORDERS.values()), START + 5_000]
    others = [shown(time, "y", 0, user=f"u{time}") for time in times]
    (tmp_path / "log").mkdir()
    for number, rows in enumerate((bot[:4], bot[4:] + others[1:], others[:1])):
        write_parquet(tmp_path / "log" / f"part-{number}.parquet", rows)
    do(tmp_path / "log", rules, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["rows"] == {
        "read": 11,
        "quarantined": 0,
        "above_user_limit": 4,
        "duplicates": 0,
        "used": 7,
        "impressions": 5,
        "other_events": 2,
    }
    (seen,) = [e for e in read_examples(tmp_path / "out", rules)["stage2"] if e["user_id"] == [b"bot"]]
    assert seen["moveline_item_id"] == [b"x4", b"x5"]


def test_the_report_accounts_for_every_row(tmp_path):
    rules = rules_of_files(max_candidates=1, bad_rows="quarantine", max_bad_share=0.2)
    log = [
        event(START, "cart", "x"),
        event(START, "cart", "x"),
        event(START, "cart", "x", user=""),
        shown(START + 10, "a", 1, request="r"),
        shown(START + 10, "b", 0, request="r"),
        *(shown(START + t, "c", 0, user="v", request="q") for t in (999, 1_000)),
        shown(START + 2_000, "d", 0),
        shown(START + 3_000, "d", 1),
    ]
    write_csv(tmp_path / "log.csv", log)
    do(tmp_path / "log.csv", rules, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == {
        "rows": {
            "read": 9,
            "quarantined": 1,
            "above_user_limit": 0,
            "duplicates": 1,
            "used": 7,
            "impressions": 6,
            "other_events": 1,
        },
        "clicks_are_logged": False,
        "impressions_enter_as_clicks": True,
        "requests": {"total": 5, "above_limit": 1, "cut_at_border": 1},
        "splits": {
            "stage1": {"examples": 3, "candidates": 3, "clicked": 1, "without_history": 1, "other_events": 1},
            "stage2": {"examples": 1, "candidates": 1, "clicked": 0, "without_history": 1, "other_events": 0},
            "eval": {"examples": 1, "candidates": 1, "clicked": 0, "without_history": 0, "other_events": 0},
            "test": {"examples": 1, "candidates": 1, "clicked": 1, "without_history": 0, "other_events": 0},
        },
    }
    with open(tmp_path / "out" / "quarantine.csv", newline="") as file:
        (bad,) = csv.DictReader(file)
    assert bad["file"] == str(tmp_path / "log.csv") and (bad["row"], bad["column"]) == ("3", "user_id")


def test_whether_clicks_are_logged_is_asked_of_the_whole_log(tmp_path):
    # The only click row is in another file and of another user, so most likely in another shard.
    rules = rules_of_files()
    (tmp_path / "log").mkdir()
    events = [shown(START + t, f"i{t}", 1) for t in (10, 20, 1_500, 2_500, 3_500)]
    write_csv(tmp_path / "log" / "a.csv", events)
    do(tmp_path / "log", rules, tmp_path / "without")
    assert read_examples(tmp_path / "without", rules)["test"][0]["moveline_behavior"] == [b"click"] * 4
    write_csv(tmp_path / "log" / "b.csv", [event(START, "click", "x", user="another")])
    do(tmp_path / "log", rules, tmp_path / "with")
    assert read_examples(tmp_path / "with", rules)["test"][0]["moveline_behavior"] == []


def bad_log(tmp_path):
    rules = rules_of_files()
    events = make_log(rules)
    rows = as_file(events)
    for n in (5, 40):
        rows[n] = {**rows[n], "user_id": ""}
    rows[60] = {**rows[60], "timestamp": "soon"}
    for part, start in enumerate((0, 50)):
        with open(tmp_path / f"part-{part}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows[start : start + 50] if not start else rows[start:])
    return [e for n, e in enumerate(events) if n not in (5, 40, 60)]


def test_bad_rows_stop_the_run_with_file_row_column_and_reason(tmp_path):
    bad_log(tmp_path)
    with pytest.raises(EventLogError) as stopped:
        do(tmp_path / "part-*.csv", rules_of_files(), tmp_path / "out")
    message = str(stopped.value)
    assert message.startswith("3 of ") and "quarantine" in message
    assert f"{tmp_path}/part-0.csv, row 6, column `user_id`: no user" in message
    assert f"{tmp_path}/part-1.csv, row 11, column `timestamp`: time is not a number" in message
    assert not glob.glob(f"{tmp_path}/out/Split-*/*")


def test_bad_rows_go_to_quarantine_and_the_others_are_used(tmp_path):
    good = bad_log(tmp_path)
    rules = rules_of_files(bad_rows="quarantine", max_bad_share=0.05)
    do(tmp_path / "part-*.csv", rules, tmp_path / "out")
    with open(tmp_path / "out" / "quarantine.csv", newline="") as file:
        rows = [(os.path.basename(r["file"]), r["row"], r["column"]) for r in csv.DictReader(file)]
    assert rows == [("part-0.csv", "6", "user_id"), ("part-0.csv", "41", "user_id"), ("part-1.csv", "11", "timestamp")]
    expected = oracle.make_examples(good, rules, any(e["behavior"] == "click" for e in good))
    assert comparable(read_examples(tmp_path / "out", rules)) == comparable(expected)


def test_more_bad_rows_than_allowed_stop_the_run(tmp_path):
    rows = len(bad_log(tmp_path)) + 3
    rules = rules_of_files(bad_rows="quarantine", max_bad_share=2.9 / rows)
    with pytest.raises(EventLogError, match=rf"3 of {rows} rows(?s:.*)They are .*%(?s:.*)raise data\.max_bad_share"):
        do(tmp_path / "part-*.csv", rules, tmp_path / "out")
    assert not glob.glob(f"{tmp_path}/out/Split-*/*")
    do(tmp_path / "part-*.csv", rules_of_files(bad_rows="quarantine", max_bad_share=3 / rows), tmp_path / "again")


def test_more_than_five_bad_rows_are_counted_not_listed(tmp_path):
    write_csv(tmp_path / "log.csv", [event(START, user="", item=f"i{n}") for n in range(8)])
    with pytest.raises(EventLogError, match=r"8 of 8 rows(?s:.*)\n  and 3 more\n"):
        do(tmp_path / "log.csv", rules_of_files(), tmp_path / "out")


def test_an_error_of_the_reader_arrives_as_it_was_raised(tmp_path):
    (tmp_path / "log.csv").write_text("user,timestamp\nu,5\n")
    with pytest.raises(EventLogError, match="no column for the event log column") as raised:
        do(tmp_path / "log.csv", rules_of_files(), tmp_path / "out")
    assert "Traceback" not in str(raised.value)


def test_a_log_that_is_not_there(tmp_path):
    with pytest.raises(EventLogError, match="No such event log"):
        do(tmp_path / "log.csv", rules_of_files(), tmp_path / "out")
    (tmp_path / "root").mkdir()
    with pytest.raises(EventLogError, match="No such event log"):
        run_pipeline(tmp_path / "log.csv", rules_of_files(), tmp_path / "root")


def test_a_log_without_impressions(tmp_path):
    write_csv(tmp_path / "log.csv", [event(START + t) for t in range(9)])
    with pytest.raises(EventLogError, match="none of the 9 rows has the behavior 'impression'"):
        do(tmp_path / "log.csv", rules_of_files(), tmp_path / "out")


def test_an_empty_split_is_named_with_the_borders(tmp_path):
    write_csv(tmp_path / "log.csv", [shown(START + t, "i", 0) for t in (10, 1_500, 3_500)])
    with pytest.raises(EventLogError, match=r"none in eval \(requests: stage1 1, stage2 1, eval 0, test 1\)"):
        do(tmp_path / "log.csv", rules_of_files(), tmp_path / "out")


TABLE_FEATURES = [
    {"name": "brand", "owner": "item", "kind": "categorical", "source": "table"},
    {"name": "tags", "owner": "item", "kind": "multi_valued", "values": 3, "source": "table"},
    {"name": "age", "owner": "user", "kind": "numeric", "source": "table"},
]


def with_tables(tmp_path, items, users, features=TABLE_FEATURES, **settings):
    (tmp_path / "items.csv").write_text("\n".join(items) + "\n")
    (tmp_path / "users").mkdir(exist_ok=True)
    for number, row in enumerate(users):
        (tmp_path / "users" / f"part-{number}.csv").write_text(f"user_id,age\n{row}\n")
    tables = {"item_table": str(tmp_path / "items.csv"), "user_table": str(tmp_path / "users")}
    return rules_of_files(features=features, **tables, **settings)


def write_small_log(path):
    shown_at = [START + 10, START + 1_010, START + 2_010, START + 3_010]
    events = [event(START + 1, "cart", "a", user=user, category="") for user in "uvw"]
    events += [shown(time, item, int(item == "a"), user="u", category="") for time in shown_at for item in ("a", "b")]
    write_csv(path, events)


def test_tables_of_items_and_users_are_joined_to_every_place_of_an_example(tmp_path):
    write_small_log(tmp_path / "log.csv")
    rules = with_tables(tmp_path, ["item_id,category_id,brand,tags", "a,c1,x,r|s"], ["u,30", "v,40"])
    do(tmp_path / "log.csv", rules, tmp_path / "out")
    (first,) = read_examples(tmp_path / "out", rules)["stage1"]
    assert first["age"] == [30.0]
    assert (first["candidate_item_id"], first["candidate_brand"]) == ([b"a", b"b"], [b"x", b""])
    assert first["candidate_category_id"] == [b"c1", b""] and first["candidate_tags"] == [b"r|s", b""]
    assert (first["moveline_brand"], first["moveline_tags"]) == ([b"x"], [b"r|s"])
    (last,) = read_examples(tmp_path / "out", rules)["test"]
    assert (last["diff_clicked_brand"], last["diff_clicked_tags"]) == ([b"x"], [b"r|s"])
    assert (last["diff_unclicked_item_id"], last["diff_unclicked_brand"]) == ([b"b"], [])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    # b is shown four times; w has one event.
    assert report["tables"] == {"rows_without_item": 4, "rows_without_user": 1}


def test_the_same_values_in_the_log_or_in_tables_give_the_same_examples(tmp_path):
    write_small_log(tmp_path / "log.csv")
    rules = with_tables(tmp_path, ["item_id,brand,tags", "a,x,r|s", "b,y,"], ["u,30", "v,40", "w,"])
    do(tmp_path / "log.csv", rules, tmp_path / "tables")
    with open(tmp_path / "log.csv", newline="") as file:
        log = list(csv.DictReader(file))
    brands, tags, ages = {"a": "x", "b": "y"}, {"a": "r|s"}, {"u": "30", "v": "40"}
    for row in log:
        row |= {
            "brand": brands[row["item_id"]],
            "tags": tags.get(row["item_id"], ""),
            "age": ages.get(row["user_id"], ""),
        }
    with open(tmp_path / "wide.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, log[0])
        writer.writeheader()
        writer.writerows(log)
    in_log = rules_of_files(features=[{k: v for k, v in f.items() if k != "source"} for f in TABLE_FEATURES])
    do(tmp_path / "wide.csv", in_log, tmp_path / "log")
    found, expected = content(tmp_path / "tables"), content(tmp_path / "log")
    assert {k: v for k, v in found.items() if "report" not in k} == {
        k: v for k, v in expected.items() if "report" not in k
    }


@pytest.mark.parametrize(
    ("items", "users", "message"),
    [
        (["item_id,brand,tags", "a,x,", "a,y,"], ["u,30"], "1 items have more than one row"),
        (["item_id,brand,tags"], ["u,old"], r"part-0.csv, row 1: column `age`: numeric feature is not a finite"),
        (["item_id,brand,tags"], ["u,30", "u,31"], r"1 users have more than one row in the user table: u \(2 rows\)"),
    ],
)
def test_a_table_that_cannot_be_used_stops_the_run(items, users, message, tmp_path):
    write_small_log(tmp_path / "log.csv")
    with pytest.raises(EventLogError, match=message) as raised:
        do(tmp_path / "log.csv", with_tables(tmp_path, items, users), tmp_path / "out")
    assert "Traceback" not in str(raised.value) and "while running" not in str(raised.value)


def test_repeated_users_of_all_shards_are_one_message(tmp_path):
    write_small_log(tmp_path / "log.csv")
    users = [f"{user},{age}" for user in "uvwxyzab" for age in (30, 31)] + ["a,32"]
    rules = with_tables(tmp_path, ["item_id,brand,tags"], users)
    with pytest.raises(EventLogError) as raised:
        do(tmp_path / "log.csv", rules, tmp_path / "out")
    first = "a (3 rows), b (2 rows), u (2 rows), v (2 rows), w (2 rows)."
    assert str(raised.value).startswith(f"{tmp_path}/users: 8 users have more than one row in the user table: {first}")


def test_a_changed_table_is_noticed(tmp_path):
    write_small_log(tmp_path / "log.csv")
    rules = with_tables(tmp_path, ["item_id,brand,tags", "a,x,"], ["u,30"])

    assert [len(run_pipeline(tmp_path / "log.csv", rules, tmp_path / "root")) for _ in range(2)] == [1, 1]
    (tmp_path / "items.csv").write_text("item_id,brand,tags\na,y,\n")
    assert len(run_pipeline(tmp_path / "log.csv", rules, tmp_path / "root")) == 2


def test_a_window_of_daily_files_gives_the_examples_of_one_file(tmp_path):
    day, first = 86_400, 20_000
    events = [
        make(time, item, user=user)
        for span in range(8)
        for user in "uv"
        for time, item, make in (
            ((first + span) * day + 5, f"a{span}", lambda t, i, user: event(t, "cart", i, user=user)),
            ((first + span) * day + 9, f"b{span}", lambda t, i, user: shown(t, i, 1, user=user)),
        )
    ]
    write_csv(tmp_path / "log.csv", events)
    for span in range(8):
        folder = tmp_path / "days" / f"day={datetime.date(1970, 1, 1) + datetime.timedelta(days=first + span)}"
        folder.mkdir(parents=True)
        write_csv(folder / "part.csv", [e for e in events if e["timestamp"] // day == first + span])
    borders = {"start": (first + 3) * day, "stage1_end": (first + 4) * day}
    borders |= {"train_end": (first + 6) * day, "eval_end": (first + 7) * day}
    log = f"{tmp_path}/days/day={{YYYY}}-{{MM}}-{{DD}}/*.csv"

    options = {"split": borders, "impressions_as_clicks": "never"}
    days = [datetime.date(1970, 1, 1) + datetime.timedelta(days=first + span) for span in range(8)]
    whole, in_days = make_rules(**options), make_rules(log=log, first_span=days[0], last_span=days[7], **options)
    do(tmp_path / "log.csv", whole, tmp_path / "whole")
    do(log, in_days, tmp_path / "days_out")
    assert content(tmp_path / "whole") == content(tmp_path / "days_out")
    report = json.loads((tmp_path / "days_out" / "report.json").read_text())
    assert [split["examples"] for split in report["splits"].values()] == [2, 4, 2, 2]
    # Three days before the start: of them there are no examples, but they are in the movelines.
    assert report["rows"]["history_impressions"] == report["rows"]["history_events"] == 6
    (one, _) = read_examples(tmp_path / "days_out", in_days)["stage1"]
    assert one["moveline_item_id"] == [b"a0", b"a1", b"a2", b"a3"] and one["diff_clicked_item_id"] == [b"b2"]

    # Two days of history are read, and no more.
    short = make_rules(log=log, first_span=days[1], last_span=days[7], **options)
    do(log, short, tmp_path / "short")
    assert read_examples(tmp_path / "short", short)["stage1"][0]["moveline_item_id"] == [b"a1", b"a2", b"a3"]


def test_a_new_day_in_the_window_is_noticed_and_one_outside_is_not(tmp_path):
    write_small_log(tmp_path / "1.csv")
    rules = rules_of_files(log="{SPAN}", last_span=5)
    log = f"{tmp_path}/{{SPAN}}.csv"
    assert len(run_pipeline(log, rules, tmp_path / "root")) == 1
    write_csv(tmp_path / "9.csv", [event(START + 2, "cart", "z")])
    assert len(run_pipeline(log, rules, tmp_path / "root")) == 1
    write_csv(tmp_path / "2.csv", [event(START + 2, "cart", "z")])
    assert len(run_pipeline(log, rules, tmp_path / "root")) == 2


@pytest.mark.parametrize("unit_rows", [1, 40, 100])
def test_one_parquet_file_is_read_in_units_with_the_same_result(unit_rows, tmp_path, monkeypatch):
    rules = rules_of_files(features=FEATURES, bad_rows="quarantine", max_bad_share=0.5)
    events = make_log(rules)
    for number in (7, 100, 250, 251):
        events[number] = {**events[number], "user_id": ""}
    rows = [{**e, "label": None if e["label"] < 0 else e["label"]} for e in events]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet", row_group_size=20)
    do(tmp_path / "log.parquet", rules, tmp_path / "whole")
    monkeypatch.setattr(units, "_UNIT_ROWS", unit_rows)
    assert len(units.units_of(str(tmp_path / "log.parquet"), "auto")) > 3
    do(tmp_path / "log.parquet", rules, tmp_path / "cut")
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    with open(tmp_path / "cut" / "quarantine.csv", newline="") as file:
        assert [row["row"] for row in csv.DictReader(file)] == ["8", "101", "251", "252"]


def test_what_is_wrong_with_a_whole_file_is_said_once(tmp_path, monkeypatch):
    rows = [{**e, "label": None if e["label"] < 0 else e["label"]} for e in make_log(rules_of_files())]
    pq.write_table(pa.Table.from_pylist(rows).drop(["scene"]), tmp_path / "log.parquet", row_group_size=20)
    monkeypatch.setattr(units, "_UNIT_ROWS", 20)
    with pytest.raises(EventLogError) as raised:
        do(tmp_path / "log.parquet", rules_of_files(), tmp_path / "out")
    assert str(raised.value).count("no column for") == 1
