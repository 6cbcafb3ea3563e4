"""`amen` as a person calls it: what works without training a model, and every way of calling it wrongly.

All of it in this process and through the entry point of the console command, with the real file descriptors captured,
because `amen run` redirects them.
"""

import contextlib
import json
import pathlib
import re
import socket

import pytest
import yaml
from rich.console import Console

from amen_tf.config import Settings
from pipeline import cli
from pipeline.runners.layout import Layout

T = 1_700_000_000
HEADER = "user_id,timestamp,scene,behavior,item_id,category_id,label,request_id"
# v has no history at all, which is nothing wrong.
GOOD = [f"{'u' if n < 9 else 'v'},{T + n},feed,impression,i{n},c,{n % 2}," for n in range(10)]


@pytest.fixture
def amen(capfd, monkeypatch):
    """`amen(*arguments)`: (exit status, standard output, standard error)."""
    # Wide enough for whole sentences in a table's cells.
    monkeypatch.setattr(cli, "console", Console(width=300))

    def _amen(*arguments):
        # pytest's own stand-ins for the streams would not follow when `amen run` redirects the descriptors.
        with (
            open(1, "w", closefd=False, encoding="utf-8") as out,
            open(2, "w", closefd=False, encoding="utf-8") as err,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            cli.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        # Whatever goes wrong, a person gets words.
        assert "Traceback" not in out + err
        return ended.value.code, out, err

    return _amen


@pytest.fixture
def write(tmp_path):
    """`write(*rows)`: the path of a CSV log."""

    def _write(*rows, header=HEADER, name="log.csv"):
        (tmp_path / name).write_text("\n".join([header, *rows]) + "\n")
        return tmp_path / name

    return _write


@pytest.fixture
def settings_file(tmp_path):
    """`settings_file(log, **sections)`: a settings file whose runs lie below the test's folder."""

    def _settings(log, **sections):
        content = {"data": {"log": str(log)}, "run": {"root": str(tmp_path / "runs")}, **sections}
        path = tmp_path / "settings.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return _settings


def one_line(text):
    """The text without its line breaks: where a table or a terminal breaks a line is not the matter here."""
    return re.sub(r"\s+", " ", text)


BAD_LOGS = {
    "empty": ([], HEADER, "the event log is empty"),
    "missing column": (["u,1,feed,impression,i"], "user_id,when,scene,behavior,item_id", "`timestamp`"),
    "unknown label": ([*GOOD, f"u,{T},feed,impression,i,c,2,"], HEADER, "label of an impression is not 0 or 1; got"),
    "wrong type": ([*GOOD, "u,yesterday,feed,impression,i,c,1,"], HEADER, "time is not a number of unix seconds"),
    "all clicked": ([row.replace(",0,", ",1,") for row in GOOD], HEADER, "all 10 impressions have label 1"),
    "milliseconds": (
        [row.replace(",feed", "000,feed") for row in GOOD],
        HEADER,
        "Set data.time_unit to milliseconds",
    ),
    "one moment": ([f"u,{T},feed,impression,i{n},c,{n % 2}," for n in range(10)], HEADER, "too few distinct times"),
}


@pytest.mark.parametrize("fault", BAD_LOGS)
def test_run_stops_at_a_bad_log_with_its_reason(fault, amen, write, settings_file, tmp_path):
    rows, header, message = BAD_LOGS[fault]
    status, out, err = amen("run", settings_file(write(*rows, header=header)))
    assert status == 1 and err == ""
    assert message in one_line(out) and "Error" in out
    # The log file has what the person is spared.
    log = pathlib.Path(re.search(r"The whole story: (\S+)", out)[1])
    assert "Traceback" in log.read_text() and "EventLogError" in log.read_text()
    # No stage has run, and the folder is free for the next try.
    assert not list((tmp_path / "runs").rglob("metadata.sqlite"))


def test_run_without_the_log(amen, settings_file, tmp_path):
    status, out, _ = amen("run", settings_file(tmp_path / "events" / "log.csv"))
    assert status == 1
    assert f"No such event log: {tmp_path}/events/log.csv" in one_line(out)
    assert f"Its folder {tmp_path}/events does not exist either" in one_line(out)


def test_run_with_a_setting_that_does_not_exist(amen, settings_file, write):
    status, out, err = amen("run", settings_file(write(*GOOD), model={"moveline_lenght": 5}))
    assert status == 2 and out == ""
    assert "model.moveline_lenght: unknown key; did you mean `moveline_length`?" in one_line(err)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.dims=8", "model.dims: unknown key; did you mean `dim`?"),
        ("model.dim=wide", "model.dim: "),
        ("model.dim", "expected section.key=value"),
        ("model.dim=[", "expected section.key=value"),
        ("model.dim=7", "dim must be a multiple of heads"),
        ("split.train_end=0.95", "borders must ascend"),
        ("data.log=log.csv", None),
    ],
)
def test_run_with_a_wrong_override(override, message, amen, tmp_path):
    status, out, err = amen("run", "--preset", "smoke", "--set", f"run.root={tmp_path}", "--set", override)
    if message is None:
        # A log replaces the preset's simulation; here there is none of that name.
        assert status == 1 and "No such event log" in out
    else:
        assert status == 2 and message in one_line(err)


@pytest.mark.parametrize("arguments", [["run"], ["run", "settings.yaml", "--preset", "smoke"]])
def test_run_takes_a_settings_file_or_a_preset(arguments, amen):
    status, _, err = amen(*arguments)
    assert status == 2 and "Give a settings file or --preset, one of the two" in one_line(err)


def test_run_with_a_preset_that_does_not_exist(amen):
    status, _, err = amen("run", "--preset", "small")
    assert status == 2 and "'smoke', 'demo', 'paper'" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No settings file at"),
        (b"data: [", "is not YAML"),
        (b"- data", "expected a mapping"),
        (b"\xff\xfe", "is not YAML"),
        (b"", "data: Field required"),
        (b"preset: large", "expected one of smoke, demo, paper"),
        (b"name: my run\ndata: {log: x}", "name: "),
    ],
)
def test_run_with_a_file_that_holds_no_settings(content, message, amen, tmp_path):
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_bytes(content)
    status, _, err = amen("run", path)
    assert status == 2 and message in one_line(err)


def test_run_where_nothing_can_be_written(amen, tmp_path):
    (tmp_path / "file").write_text("in the way")
    status, _, err = amen("run", "--preset", "smoke", "--set", f"run.root={tmp_path}/file")
    assert status != 0 and str(tmp_path / "file") in err


def test_run_in_a_folder_where_another_run_works(amen, write, settings_file):
    settings = settings_file(write(*GOOD))
    with Layout(Settings.load(settings)).locked():
        status, out, _ = amen("run", settings)
    assert status == 1 and "Another run is working in" in one_line(out) and "--set name=" in one_line(out)


def test_init_writes_settings_that_load(amen, write, tmp_path, monkeypatch):
    log = write(*GOOD)
    monkeypatch.chdir(tmp_path)
    status, out, _ = amen("init", "log.csv", "--output", "mine.yaml", "--name", "mine")
    assert status == 0 and "amen run mine.yaml" in out
    settings = Settings.load("mine.yaml")
    assert settings.name == "mine" and settings.data.log == str(log)
    assert settings.data.simulate is None and settings.data.features == ()


def test_init_overwrites_nothing(amen, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("mine")
    status, _, err = amen("init", "log.csv", "--output", path)
    assert status == 1 and "exists" in err and path.read_text() == "mine"


@pytest.mark.parametrize("name", ["a: b #1.csv", "it's.csv", 'say "hi".csv', "täglich.csv"])
def test_init_with_a_name_that_means_something_in_yaml(name, amen, write, tmp_path):
    log = write(*GOOD, name=name)
    assert amen("init", log, "--output", tmp_path / "s.yaml")[0] == 0
    assert Settings.load(tmp_path / "s.yaml").data.log == str(log)


def test_init_leaves_no_file_that_does_not_load(amen, tmp_path):
    status, _, err = amen("init", "log.csv", "--output", tmp_path / "s.yaml", "--name", "my run")
    assert status == 2 and "name: " in err
    assert not (tmp_path / "s.yaml").exists()


def test_init_into_a_folder_that_is_not_there(amen, tmp_path):
    status, _, err = amen("init", "log.csv", "--output", tmp_path / "no" / "s.yaml")
    assert status != 0 and str(tmp_path / "no" / "s.yaml") in err


def test_check_of_a_good_log(amen, write, tmp_path):
    status, out, _ = amen("check", write(*GOOD), "--json", tmp_path / "report.json")
    assert status == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["rows"], report["impressions"], report["clicked"]) == (10, 10, 5)
    assert "feed" in out and "impression" in out


def test_check_of_a_log_with_bad_rows(amen, write):
    status, out, _ = amen("check", write(*GOOD, f"u,{T},feed,impression,i,c,2,", f",{T},feed,click,i,c,,"))
    assert status == 1
    assert "label of an impression is not 0 or 1" in one_line(out) and "no user" in one_line(out)


@pytest.mark.parametrize("fault", ["missing column", "milliseconds"])
def test_check_of_a_log_that_cannot_be_read(fault, amen, write):
    rows, header, message = BAD_LOGS[fault]
    status, _, err = amen("check", write(*rows, header=header))
    assert status == 2 and message in one_line(err)


def test_check_reads_a_log_as_the_settings_say(amen, write, settings_file):
    log = write(*GOOD, header=HEADER.replace("user_id", "uid"))
    assert amen("check", log)[0] == 2
    settings = settings_file(log, data={"log": str(log), "columns": {"user_id": "uid"}})
    assert amen("check", "--settings", settings)[0] == 0
    assert amen("check", log, "--settings", settings)[0] == 0


def test_check_of_nothing(amen, tmp_path):
    status, _, err = amen("check")
    assert status == 2 and "Give a log" in err
    status, _, err = amen("check", tmp_path / "log.csv")
    assert status == 2 and f"No such event log: {tmp_path}/log.csv" in one_line(err)


def test_simulate_writes_a_log_that_its_settings_read(amen, tmp_path):
    sizes = ["--users", 30, "--items", 40, "--categories", 3, "--days", 5, "--candidates", 4]
    status, out, _ = amen("simulate", tmp_path / "sim", *sizes)
    assert status == 0 and f"amen run {tmp_path}/sim/settings.yaml" in one_line(out)
    assert amen("check", "--settings", tmp_path / "sim" / "settings.yaml")[0] == 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--users", "0"], "--users: "),
        (["--users", "many"], "'--users'"),
        (["--user", "5"], "--user"),
        (["--items", "10", "--candidates", "8"], "8 candidates out of 10 items"),
    ],
)
def test_simulate_with_a_wrong_size(option, message, amen, tmp_path):
    status, _, err = amen("simulate", tmp_path / "sim", *option)
    assert status == 2 and message in one_line(err)


@pytest.mark.parametrize("adapter", ["trivago", "movielens"])
def test_convert_of_something_else(adapter, amen, tmp_path):
    status, _, err = amen("convert", adapter, tmp_path / "nowhere", tmp_path / "out")
    assert status == 2 and str(tmp_path / "nowhere") in one_line(err)
    (tmp_path / "notes.txt").write_text("not a data set")
    status, _, err = amen("convert", adapter, tmp_path / "notes.txt", tmp_path / "out")
    assert status == 2 and "notes.txt" in one_line(err)
    assert not list((tmp_path / "out").rglob("*.parquet")) and not (tmp_path / "out" / "settings.yaml").exists()


def test_convert_of_an_unknown_data_set(amen, tmp_path):
    status, _, err = amen("convert", "netflix", tmp_path, tmp_path / "out")
    assert status == 2 and "netflix" in err


def test_serve_on_a_port_that_is_taken(amen, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, err = amen("serve", tmp_path, "--port", port)
    assert status == 2 and str(port) in err and "in use" in one_line(err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give a push folder or --model-config-file"),
        (["push", "--model-config-file", "models.config"], "one of the two"),
        (["--model-config-file", "models.config", "--model", "m"], "has the names itself"),
        (["--model-config-file", "no/models.config"], "'no/models.config' cannot be read"),
    ],
)
def test_serve_of_a_folder_or_a_models_config(arguments, message, amen):
    status, _, err = amen("serve", *arguments)
    assert status == 2 and message in one_line(err)


def test_serve_of_a_folder_without_a_version(amen, tmp_path):
    status, _, err = amen("serve", tmp_path / "amen", "--port", 0)
    assert status == 2 and str(tmp_path / "amen") in one_line(err)


REQUEST = {
    "timestamp": T,
    "scene": "feed",
    "moveline": [],
    "candidates": [{"item_id": "a", "category_id": "c"}],
}


@pytest.fixture
def request_file(tmp_path):
    """`request_file(**changes)`: REQUEST with changes, as a file."""

    def _request(**changes):
        path = tmp_path / "request.json"
        path.write_text(json.dumps({**REQUEST, **changes}))
        return path

    return _request


@pytest.fixture
def closed_port():
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_rank_without_candidates_asks_nobody(amen, request_file, closed_port):
    status, out, err = amen("rank", request_file(candidates=[]), "--address", f"http://127.0.0.1:{closed_port}")
    assert status == 2 and out == ""
    assert "has no candidates" in err and "Nothing was sent" in one_line(err)


def test_rank_without_a_server(amen, request_file, closed_port):
    status, _, err = amen("rank", request_file(), "--address", f"http://127.0.0.1:{closed_port}")
    assert status == 2 and f"No TensorFlow Serving REST server answers at http://127.0.0.1:{closed_port}" in err
    assert "amen serve" in one_line(err)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidate": []}, "did you mean 'candidates'?"),
        ({"timestamp": T * 1000}, "looks like milliseconds"),
        ({"moveline": [{"timestamp": T + 1, "scene": "feed", "behavior": "click"}]}, "moveline[0].timestamp"),
        ({"candidates": [{"item_id": ""}]}, "candidates[0].item_id"),
    ],
)
def test_rank_with_a_wrong_request(changes, message, amen, request_file):
    status, _, err = amen("rank", request_file(**changes))
    assert status == 2 and message in one_line(err)


def test_rank_without_the_file(amen, tmp_path):
    status, _, err = amen("rank", tmp_path / "request.json")
    assert status == 2 and "request.json" in err


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["run"],
        ["init"],
        ["check"],
        ["convert"],
        ["simulate"],
        ["serve"],
        ["rank"],
        ["schema"],
        ["skew"],
        ["promote"],
        ["rollback"],
    ],
)
def test_help_of_every_command(command, amen):
    status, out, _ = amen(*command, "--help")
    assert status == 0 and out.startswith("Usage: amen")


def test_schema_shows_what_could_be_asked_and_writes_it(amen, write, tmp_path):
    rows = [f"u{n % 7},{T + n},{'feed' if n % 3 else 'live'},impression,i{n},c,{n % 2}," for n in range(200)]
    (tmp_path / "s.yaml").write_text(f"{{data: {{log: {write(*rows)}}}, run: {{root: {tmp_path / 'runs'}}}}}")
    own = tmp_path / "own.pbtxt"
    status, out, err = amen("schema", tmp_path / "s.yaml", "--write", own)
    assert status == 0, out + err
    assert "The examples fit the schema." in out and "2 values: feed, live" in out and f"Wrote {own}" in out
    assert 'value: "live"' in own.read_text()
    status, _, err = amen("schema", tmp_path / "s.yaml", "--write", own)
    assert status == 1 and "exists" in err
    # The rule holds from now on, and the examples need not be made anew to break it.
    own.write_text(own.read_text().replace('value: "live"', 'value: "search"'))
    status, out, _ = amen("schema", tmp_path / "s.yaml", "--set", f"data.schema_file={own}")
    assert status == 1 and "Unexpected string values" in out and "scene" in out


def test_skew_says_where_logged_requests_differ_from_training(amen, write, tmp_path):
    scenes = ["feed", "feed", "live"]
    rows = [f"u{n % 7},{T + n},{scenes[n % 3]},impression,i{n},c,{n % 2}," for n in range(300)]
    (tmp_path / "s.yaml").write_text(f"{{data: {{log: {write(*rows)}}}, run: {{root: {tmp_path / 'runs'}}}}}")
    asked = [
        {
            "timestamp": T + n,
            "scene": scenes[n % 3],
            "moveline": [
                {"timestamp": T, "scene": scenes[m % 3], "behavior": "click", "item_id": "i", "category_id": "c"}
                for m in range(n % 9)
            ],
            "candidates": [{"item_id": "i", "category_id": "c"}],
        }
        for n in range(90)
    ]
    (tmp_path / "same.jsonl").write_text("\n".join(map(json.dumps, asked)))
    status, out, err = amen("skew", tmp_path / "s.yaml", tmp_path / "same.jsonl")
    assert status == 0 and "90 logged requests" in out and "They are alike." in out, out + err
    elsewhere = [{**request, "scene": "search"} for request in asked]
    (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, elsewhere)))
    status, out, _ = amen("skew", tmp_path / "s.yaml", tmp_path / "other.jsonl")
    assert status == 1 and re.search("scene +. Skew", out) and "moveline_scene" not in out
    (tmp_path / "broken.jsonl").write_text('{"scene": "feed"}')
    status, _, err = amen("skew", tmp_path / "s.yaml", tmp_path / "broken.jsonl")
    assert status == 2 and "broken.jsonl, line 1: no request of this model" in one_line(err)


def test_schema_with_a_file_that_is_none(amen, write, tmp_path):
    (tmp_path / "s.yaml").write_text(f"{{data: {{log: {write(*GOOD)}}}, run: {{root: {tmp_path / 'runs'}}}}}")
    status, _, err = amen("schema", tmp_path / "s.yaml", "--set", f"data.schema_file={tmp_path / 'none.pbtxt'}")
    assert status == 2 and "none.pbtxt: cannot be read as a schema" in one_line(err)


def test_a_command_that_does_not_exist(amen):
    status, _, err = amen("rnu")
    assert status == 2 and "rnu" in err


@pytest.fixture
def models_config(tmp_path):
    """A models.config with `stable` at version 1, and a push folder with the versions 1 and 2."""
    for version in (1, 2):
        variables = tmp_path / "push" / "m" / str(version) / "variables"
        variables.mkdir(parents=True)
        for file in (variables / "variables.index", variables / "variables.data-00000-of-00001"):
            file.write_bytes(b"1")
        (variables.parent / "saved_model.pb").write_bytes(b"1")
    path = tmp_path / "models.config"
    path.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{tmp_path}/push/m" model_platform: "tensorflow"\n'
        "  model_version_policy { specific { versions: 1 } }\n"
        '  version_labels { key: "stable" value: 1 } } }\n'
    )
    return path


def test_promote_prints_its_steps_and_runs_what_applies_them(amen, models_config, tmp_path):
    applied = tmp_path / "applied.config"
    call = ("promote", 2, "--label", "canary", "--config", models_config, "--model", "m")
    status, out, _ = amen(*call, "--dry-run")
    assert status == 0 and '+  version_labels { key: "canary" value: 2 }' in out
    assert "canary" not in models_config.read_text()
    status, out, _ = amen(*call, "--no-wait", "--apply", f"cp {models_config} {applied}")
    assert status == 0 and "No server was asked" in out
    assert applied.read_text() == models_config.read_text() and 'key: "canary" value: 2' in applied.read_text()
    status, _, err = amen(*call, "--no-wait", "--apply", "false")
    assert status == 1 and "was not applied" in err and "same command again" in err


def test_promote_takes_file_name_and_folder_from_the_settings(amen, models_config, tmp_path, settings_file):
    push = {"folder": str(tmp_path / "push"), "model_name": "m", "models_config": str(models_config)}
    settings = settings_file(tmp_path / "log.csv", push=push)
    models_config.write_text(models_config.read_text().replace(f"{tmp_path}/push/m", "/models/m"))
    status, out, err = amen("promote", 2, "--label", "canary", "--settings", settings, "--no-wait")
    assert (status, err) == (0, "") and 'key: "canary" value: 2' in models_config.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", 2, "--label", "stable"], "Give --server URL for each replica"),
        (["promote", 2, "--label", "previous", "--dry-run"], "'previous' is not one of"),
        (["promote", 2, "--label", "stable", "--no-wait", "--server", "x"], "leave out --server"),
        (["promote", 3, "--label", "canary", "--no-wait"], "Version 3 is not whole"),
        (["promote", 2, "--label", "stable", "--no-wait"], "may be answering"),
        (["promote", 2, "--label", "stable", "--server", "127.0.0.1:1"], "No answer from http://127.0.0.1:1"),
        (["rollback"], "Give --server URL for each replica"),
        (["rollback", "--dry-run"], "no label 'previous'"),
    ],
)
def test_promote_and_rollback_refuse(arguments, message, amen, models_config):
    before = models_config.read_text()
    status, _, err = amen(*arguments, "--config", models_config, "--model", "m")
    assert status == 2 and message in one_line(err)
    assert models_config.read_text() == before


def test_promote_of_no_file(amen, tmp_path):
    status, _, err = amen("promote", 2, "--label", "stable", "--dry-run")
    assert status == 2 and "--config models.config" in one_line(err)
    status, _, err = amen("promote", 2, "--label", "stable", "--dry-run", "--config", tmp_path / "none")
    assert status == 2 and "cannot be read" in one_line(err)
