"""Settings: presets, round trip, faults with the nearest valid name, overrides, borders, where a log lies."""

import datetime as dt
import pathlib
import re

import pydantic
import pytest
import yaml

from amen_tf.config import PRESETS, ModelSettings, Settings, SettingsError, SplitSettings
from amen_tf.features import FeatureContract


def parse(overrides=(), **content):
    return Settings.parse({"data": {"simulate": {}}, **content}, "run.yaml", overrides)


def fault(**content):
    """The message of settings that must not pass."""
    with pytest.raises(SettingsError) as error:
        parse(**content)
    return str(error.value)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_load_and_round_trip(name, tmp_path):
    settings = Settings.from_preset(name)
    assert settings.preset == name and settings.name == f"amen-{name}"
    assert settings.data.simulate is not None and settings.data.log is None
    (tmp_path / "settings.yaml").write_text(settings.to_yaml(), encoding="utf-8")
    assert Settings.load(tmp_path / "settings.yaml") == settings


def test_presets_grow_from_smoke_to_paper():
    smoke, demo, paper = (Settings.from_preset(name) for name in ("smoke", "demo", "paper"))
    assert smoke.model.dim < demo.model.dim < paper.model.dim
    assert smoke.data.simulate.users < demo.data.simulate.users < paper.data.simulate.users


def test_full_settings_round_trip(tmp_path):
    settings = parse(
        name="mine",
        preset="demo",
        data={
            "log": "/logs/events",
            "columns": {"user_id": "uid"},
            "features": [{"name": "price", "owner": "item", "kind": "numeric", "buckets": 5}],
        },
        split={"stage1_end": None, "train_end": "2024-01-02", "eval_end": "2024-01-03T06:00:00"},
        model={"hidden_units": [7, 5]},
        base={"max_steps": 9},
    )
    (tmp_path / "settings.yaml").write_text(settings.to_yaml(), encoding="utf-8")
    again = Settings.load(tmp_path / "settings.yaml")
    assert again == settings
    assert again.model.hidden_units == (7, 5) and again.data.features[0].buckets == 5


def test_keys_win_over_their_preset_and_leave_the_rest():
    settings = parse(preset="smoke", model={"dim": 32}, data={"simulate": {"users": 7}})
    smoke = Settings.from_preset("smoke")
    assert settings.model == smoke.model.model_copy(update={"dim": 32})
    assert settings.data.simulate.users == 7 and settings.data.simulate.items == smoke.data.simulate.items
    assert settings.ctr == smoke.ctr


def test_own_log_replaces_the_presets_simulated_one():
    settings = Settings.parse({"preset": "demo", "data": {"log": "/logs"}}, "run.yaml")
    # The preset declares `position`, a column of its simulator that another log need not have.
    assert settings.data.simulate is None and settings.data.features == ()
    assert settings.model == Settings.from_preset("demo").model


def test_overrides_win_over_everything():
    settings = parse(("model.dim=64", "generator.weight_init=false", "model.hidden_units=[3, 2]"), model={"dim": 8})
    assert settings.model.dim == 64 and settings.model.hidden_units == (3, 2)
    assert settings.generator.weight_init is False
    assert Settings.from_preset("smoke", ("seed=3", "split.stage1_end=null")).split.stage1_end is None


@pytest.mark.parametrize("text", ["model.dim", "=3"])
def test_override_without_key_or_value_says_what_is_expected(text):
    with pytest.raises(SettingsError, match=f"--set {text}: expected section.key=value"):
        parse((text,))


def test_override_of_an_unknown_key_names_the_nearest():
    with pytest.raises(SettingsError, match="model.dmi: unknown key; did you mean `dim`?"):
        parse(("model.dmi=3",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sede": 1}, "sede: unknown key; did you mean `seed`?"),
        ({"model": {"flow_lenght": 1}}, "model.flow_lenght: unknown key; did you mean `flow_length`?"),
        ({"data": {"simulate": {"usrs": 1}}}, "data.simulate.usrs: unknown key; did you mean `users`?"),
        (
            {"data": {"simulate": {}, "features": [{"name": "a", "owner": "user", "kind": "numeric", "bucket": 3}]}},
            "data.features.0.bucket: unknown key; did you mean `buckets`?",
        ),
        # A key of the parent class counts as valid; one of another section does not.
        ({"generator": {"learning_rte": 1}}, "generator.learning_rte: unknown key; did you mean `learning_rate`?"),
        ({"push": {"qqqq": 1}}, "push.qqqq: unknown key; valid here: folder, model_name"),
    ],
)
def test_unknown_keys_name_the_nearest_valid_one(content, message):
    assert message in fault(**content)


def test_every_fault_is_listed_with_its_key_and_value():
    message = fault(
        sede=1,
        model={"heads": 1, "dim": "wide"},
        data={"simulate": {}, "features": [{"name": "a", "owner": "seller", "knd": "numeric"}]},
    )
    assert message.startswith("run.yaml has settings that cannot be used:\n")
    for key in ("sede", "model.heads", "model.dim", "data.features.0.owner", "data.features.0.knd"):
        assert f"\n  {key}: " in message, key
    assert "data.features.0.kind: Field required" in message
    assert "got 'wide'" in message and "got 'seller'" in message and "got 1" in message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "give exactly one of `log`"),
        ({"log": "a", "simulate": {}}, "give exactly one of `log`"),
        (
            {"simulate": {}, "features": [{"name": "a", "owner": "user", "kind": "numeric"}] * 2},
            "features declared twice: a",
        ),
        *(
            (
                {"simulate": {}, "features": [{"name": name, "owner": owner, "kind": "numeric"}]},
                f"columns that are derived from the log: {name}; give them another name",
            )
            for name, owner in (
                ("flow", "user"),
                ("user_key", "user"),
                ("moveline_length", "context"),
                ("candidate_mask", "user"),
                ("future_price", "item"),
                ("age", "item"),
                ("mask", "item"),
                ("weight", "candidate"),
            )
        ),
        (
            {"simulate": {}, "features": [{"name": "label", "owner": "user", "kind": "numeric"}]},
            "columns that the event log already has: label",
        ),
        ({"simulate": {}, "features": [{"name": "a b", "owner": "user", "kind": "numeric"}]}, "data.features.0.name"),
    ],
)
def test_rules_of_the_data_section(data, message):
    assert message in fault(data=data)


def test_dim_is_a_multiple_of_heads():
    assert "dim must be a multiple of heads (d = H * d_head), got dim=30, heads=4" in fault(
        model={"dim": 30, "heads": 4}
    )
    # S_div compares pairs of heads, so one head has none.
    assert "model.heads" in fault(model={"heads": 1})
    assert ModelSettings(dim=30, heads=5).dim == 30


def test_unknown_preset_lists_the_valid_ones():
    assert "run.yaml: preset: expected one of smoke, demo, paper, got 'dmo'" in fault(preset="dmo")
    with pytest.raises(SettingsError, match="expected one of smoke, demo, paper"):
        Settings.from_preset("dmo")


def test_settings_are_frozen():
    settings = Settings.from_preset("smoke")
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.seed = 3
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.model.dim = 3


def test_file_that_is_missing_or_not_yaml_or_no_mapping(tmp_path):
    with pytest.raises(SettingsError, match="No settings file at .*missing.yaml. Expected a YAML file"):
        Settings.load(tmp_path / "missing.yaml")
    path = tmp_path / "broken.yaml"
    path.write_text("data: [1,", encoding="utf-8")
    with pytest.raises(SettingsError, match="broken.yaml is not YAML"):
        Settings.load(path)
    path.write_text("- a\n- b\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="expected a mapping of settings, got list"):
        Settings.load(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(SettingsError, match="data: Field required"):
        Settings.load(path)


def test_relative_log_is_resolved_against_the_settings_file(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    path = folder / "settings.yaml"
    for log, expected in {
        "events.csv": folder / "events.csv",
        "../other/*.parquet": tmp_path / "other" / "*.parquet",
        "/logs/events": "/logs/events",
        "gs://bucket/events": "gs://bucket/events",
    }.items():
        path.write_text(yaml.safe_dump({"data": {"log": log}}), encoding="utf-8")
        assert Settings.load("mine/settings.yaml").data.log == str(expected)
        assert Settings.load(path).data.log == str(expected)


NOON = 1_704_196_800  # 2024-01-02 12:00 UTC


@pytest.mark.parametrize(
    ("border", "expected"),
    [
        (0.25, 0.25),
        ("0.25", 0.25),
        (NOON, NOON),
        (float(NOON), NOON),
        (str(NOON), NOON),
        (dt.date(2024, 1, 2), NOON - 12 * 3600),
        ("2024-01-02", NOON - 12 * 3600),
        (dt.datetime(2024, 1, 2, 12), NOON),
        ("2024-01-02T12:00:00", NOON),
        ("2024-01-02 12:00", NOON),
        ("2024-01-02T12:00:00Z", NOON),
        ("2024-01-02T14:00:00+02:00", NOON),
    ],
)
def test_borders_are_fractions_or_times(border, expected):
    kind = (0.8, 0.9) if isinstance(expected, float) else (NOON + 1000, NOON + 2000)
    split = SplitSettings(stage1_end=border, train_end=kind[0], eval_end=kind[1])
    assert split.stage1_end == expected and type(split.stage1_end) is type(expected)
    assert split.resolved == isinstance(expected, int)


def test_dates_in_yaml_are_borders(tmp_path):
    # YAML reads an unquoted date as one.
    path = tmp_path / "settings.yaml"
    path.write_text(
        "data: {simulate: {}}\nsplit: {stage1_end: 2024-01-02, train_end: 2024-01-02 12:00:00, eval_end: 1704200000}\n",
        encoding="utf-8",
    )
    split = Settings.load(path).split
    assert (split.stage1_end, split.train_end, split.eval_end) == (NOON - 12 * 3600, NOON, 1_704_200_000)


@pytest.mark.parametrize("border", [0, -1, 1.5, float("nan"), float("inf"), "soon", True, "nan", [1]])
def test_borders_that_are_neither(border):
    message = fault(split={"stage1_end": None, "train_end": border, "eval_end": NOON})
    assert "split.train_end" in message


def test_borders_of_mixed_kinds_or_out_of_order():
    assert "as fractions or all as times, not a mixture" in fault(split={"train_end": NOON})
    assert "borders must ascend" in fault(split={"stage1_end": 0.9, "train_end": 0.8, "eval_end": 0.95})
    assert "borders must ascend" in fault(split={"stage1_end": 0.5, "train_end": 0.8, "eval_end": 0.8})
    assert "borders must ascend" in fault(
        split={"stage1_end": "2024-01-03", "train_end": "2024-01-02", "eval_end": "2024-01-04"}
    )


def test_splits_by_name():
    two = SplitSettings()
    assert two.names == ("stage1", "stage2", "eval", "test")
    assert (two.stage1_splits, two.stage2_splits, two.train_splits) == (("stage1",), ("stage2",), ("stage1", "stage2"))
    one = SplitSettings(stage1_end=None)
    assert one.names == ("train", "eval", "test")
    assert one.stage1_splits == one.stage2_splits == one.train_splits == ("train",)


def test_hash_buckets_name_categorical_columns():
    content = {"data": {"log": "x", "features": [{"name": "price", "owner": "item", "kind": "numeric"}]}}
    kept = Settings.parse({**content, "transform": {"hash_buckets": {"item_id": 1000}}}, "test")
    assert kept.transform.hash_buckets == {"item_id": 1000}
    with pytest.raises(SettingsError, match=r"hash_buckets: expected categorical columns \(item_id, .*\), got price"):
        Settings.parse({**content, "transform": {"hash_buckets": {"price": 10}}}, "test")
    with pytest.raises(SettingsError, match="hash_buckets"):
        Settings.parse({**content, "transform": {"hash_buckets": {"item_id": 1}}}, "test")


def test_multi_valued_features_leave_no_name_to_others():
    tags = {"name": "tags", "owner": "item", "kind": "multi_valued", "values": 3}
    contract = FeatureContract.from_settings(Settings.parse({"data": {"log": "x", "features": [tags]}}, "test"))
    assert contract.item_fields == ("item_id", "category_id", "tags_1", "tags_2", "tags_3")
    assert "tags" in contract.categorical_meanings and contract.meaning_of("tags_2") == "tags"
    assert [c.name for c in contract.candidate_columns] == [
        "candidate_item_id",
        "candidate_category_id",
        "candidate_tags",
    ]
    other = {"name": "tags_3", "owner": "user", "kind": "categorical"}
    with pytest.raises(SettingsError, match="values of a multi-valued feature: tags_3"):
        Settings.parse({"data": {"log": "x", "features": [tags, other]}}, "test")


def test_features_of_tables_need_a_table_and_an_owner_with_one(tmp_path):
    def parsed(owner, **data):
        feature = {"name": "f", "owner": owner, "kind": "numeric", "source": "table"}
        return Settings.parse({"data": {"log": "x", "features": [feature], **data}}, "test")

    assert parsed("item", item_table="i.csv").data.table_features("item")[0].name == "f"
    assert parsed("user", user_table="u.csv").data.log_features == ()
    with pytest.raises(SettingsError, match=r"owner: item need data\.item_table: f"):
        parsed("item", user_table="u.csv")
    with pytest.raises(SettingsError, match="only features of items and users can have source: table, not f"):
        parsed("context", item_table="i.csv")


def test_tables_lie_relative_to_the_settings_file(tmp_path):
    (tmp_path / "s.yaml").write_text(
        "data: {log: log.csv, item_table: sub/items.csv, user_table: gs://bucket/users.csv}"
    )
    data = Settings.load(tmp_path / "s.yaml").data
    assert data.item_table == str(tmp_path / "sub" / "items.csv") and data.user_table == "gs://bucket/users.csv"


def test_settings_in_the_docs_of_the_data_path_are_valid():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert any("item_table" in block.get("data", {}) for block in blocks)
    for block in blocks:
        Settings.parse({"data": {"log": "x"}, **block}, "docs/data.md")


@pytest.mark.parametrize(
    ("data", "split", "fault"),
    [
        ({"log": "x.csv"}, {"spans": {"stage1": 3}}, "split.spans: expected data.log to be a pattern with {SPAN}"),
        ({"log": "x.csv", "last_span": 5}, {}, "data.last_span: expected data.log to be a pattern"),
        ({"log": "{SPAN}"}, {"start": 0.5}, "start: expected a time"),
        (
            {"log": "{SPAN}"},
            {"spans": {}, "train_end": 0.7},
            "train_end: with `spans` the borders are where spans begin",
        ),
        ({"log": "{SPAN}", "last_span": 5}, {"spans": {}}, "give split.spans.newest instead"),
        (
            {"log": "{SPAN}"},
            {"start": 9, "stage1_end": 5, "train_end": 7, "eval_end": 8},
            "borders must ascend: start <",
        ),
        ({"log": "{SPAN}"}, {"spans": {"days": 3}}, "days"),
        ({"log": "{SPAN}"}, {"spans": {"stage1": 1, "stage2": 0, "future": 3}}, "fewer spans than the window has (3)"),
    ],
)
def test_spans_and_starts_that_cannot_be(data, split, fault):
    with pytest.raises(SettingsError, match=re.escape(fault)):
        Settings.parse({"data": data, "split": split}, "test")


def test_a_warm_start_is_off_and_has_a_share_of_the_learning_rate():
    assert not Settings.from_preset("smoke").warm_start.enabled
    given = Settings.from_preset("smoke", ("warm_start.enabled=true", "warm_start.learning_rate=1")).warm_start
    assert given.enabled and given.learning_rate == 1.0
    for share in (0, 1.5):
        with pytest.raises(SettingsError, match=r"warm_start\.learning_rate"):
            Settings.from_preset("smoke", (f"warm_start.learning_rate={share}",))


def test_spans_are_dates_or_numbers(tmp_path):
    (tmp_path / "s.yaml").write_text("data: {log: '{SPAN}', last_span: 2026-03-01}\nsplit: {spans: {newest: 12}}")
    settings = Settings.load(tmp_path / "s.yaml")
    assert settings.data.last_span == dt.date(2026, 3, 1) and settings.split.spans.newest == 12
    (tmp_path / "again.yaml").write_text(settings.to_yaml())
    assert Settings.load(tmp_path / "again.yaml") == settings
