"""The simulator: same seed same log, a truth that is one, and controls that control what they say."""

import json
import time

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from amen_tf.config import DataSettings, SimulateSettings
from pipeline.datasets import simulator
from pipeline.datasets.auc import exact_auc
from pipeline.datasets.sim_world import DAY, START_TIME, make_world
from pipeline.datasets.simulator import oracle_auc, simulate
from pipeline.event_log.check import check_log
from pipeline.event_log.errors import EventLogError

SMALL = {"users": 150, "items": 200, "categories": 8, "days": 10, "requests_per_user": 8, "candidates": 5}
LARGE = {"users": 3000, "items": 2000, "categories": 40}
# Enough users for statistics, few candidates for speed.
CONTROL = {**LARGE, "users": 1800, "candidates": 3}


def rows_of(folder):
    return pq.read_table(folder / "events").combine_chunks()


def events_of(folder):
    """All rows but the impressions."""
    log = rows_of(folder)
    return log.filter(pc.not_equal(log["behavior"], "impression"))


def truth_of(folder):
    return pq.read_table(folder / "truth.parquet")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    started = time.monotonic()
    summary = simulate(SimulateSettings(**LARGE), folder)
    return folder, summary, time.monotonic() - started


def test_same_seed_same_log_another_seed_another(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate(SimulateSettings(**SMALL, seed=seed), tmp_path / name)
    a, b, c = (rows_of(tmp_path / name) for name in "abc")
    assert a.equals(b) and not a.equals(c)
    assert truth_of(tmp_path / "a").equals(truth_of(tmp_path / "b"))
    reports = [(tmp_path / name / "simulation.json").read_text() for name in "abc"]
    assert reports[0] == reports[1] != reports[2]


def test_blocks_are_alike_however_many_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(simulator, "_MOST_USERS_PER_BLOCK", 64)
    few, many = (simulate(SimulateSettings(**{**SMALL, "users": n}), tmp_path / str(n)) for n in (64, 200))
    assert few.rows < many.rows
    files = sorted((tmp_path / "200" / "events").iterdir())
    assert len(files) == 4
    assert pq.read_table(files[0]).equals(pq.read_table(tmp_path / "64" / "events" / "part-00000.parquet"))


def test_figures_are_realistic_and_agree_with_the_check(large):
    folder, summary, seconds = large
    data = DataSettings(log=str(folder / "events"), features=simulator._FEATURES)
    report = check_log(data.log, data)
    assert not report.broken and report.duplicates == 0 and report.warnings == ()
    for name in ("rows", "users", "requests", "impressions", "clicked", "click_rate", "events"):
        assert getattr(report, name) == getattr(summary, name), name
    assert report.median_events_per_user == summary.median_events_per_user
    assert 0.03 < summary.click_rate < 0.15
    assert 0.75 < summary.oracle_auc < 0.85
    assert 10 <= summary.median_events_per_user < 100
    # `requests_per_user` is 20 by default.
    assert summary.requests / LARGE["users"] == pytest.approx(20, rel=0.1)
    assert set(report.scenes) == {"feed", "search", "live", "content", "item_page", "cart"}
    assert set(report.behaviors) == {"impression", "click", "search", "visit", "favorite", "cart", "purchase"}
    # A million in 40 s would pass; it takes about a tenth of that on one idle core.
    assert summary.rows / seconds > 25_000
    saved = json.loads((folder / "simulation.json").read_text())
    assert saved["settings"]["users"] == 3000 and saved["counts"]["oracle_auc"] == summary.oracle_auc


def test_requests_are_whole(large):
    folder, summary, _ = large
    truth = truth_of(folder)
    n = 8
    assert truth.num_rows == summary.impressions == summary.requests * n
    shown = truth.sort_by([("request_id", "ascending"), ("position", "ascending")])
    items = pc.index_in(shown["item_id"], value_set=pc.unique(shown["item_id"])).to_numpy().reshape(-1, n)
    assert (np.diff(np.sort(items, axis=1), axis=1) > 0).all()
    assert (shown["position"].to_numpy().reshape(-1, n) == np.arange(1, n + 1)).all()
    assert (np.ptp(shown["timestamp"].to_numpy().reshape(-1, n), axis=1) == 0).all()


def test_truth_is_the_chance_of_a_click(large):
    folder, _, _ = large
    truth = truth_of(folder)
    label, probability = truth["label"].to_numpy(), truth["probability"].to_numpy().astype(float)
    for low, high in ((0, 0.02), (0.02, 0.1), (0.1, 0.4), (0.4, 1)):
        part = (probability >= low) & (probability < high)
        expected = probability[part].mean()
        assert label[part].mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / part.sum()))


def test_truth_beats_what_needs_no_model(large):
    folder, summary, _ = large
    truth = truth_of(folder)
    label, position, when = (truth[name].to_numpy() for name in ("label", "position", "timestamp"))
    border = int(np.quantile(when, 0.5))
    late = when >= border
    item = pc.index_in(truth["item_id"], value_set=pc.unique(truth["item_id"])).to_numpy()
    shown, clicked = (np.bincount(item[~late], weights=w, minlength=item.max() + 1) for w in (None, label[~late]))
    rate = (clicked + 0.05 * 20) / (shown + 20)
    best = oracle_auc(folder, from_time=border)
    assert best == pytest.approx(summary.oracle_auc, abs=0.02)
    by_position, by_item = exact_auc(label[late], -position[late]), exact_auc(label[late], rate[item[late]])
    assert 0.55 < by_position < best - 0.08
    assert 0.52 < by_item < best - 0.08


def test_a_click_in_the_feed_is_an_event_after_its_request(large):
    folder, _, _ = large
    log = rows_of(folder)
    feed = log.filter(pc.equal(log["scene"], "feed"))
    keys = ("user_id", "item_id", "timestamp")
    clicks = list(zip(*(feed.filter(pc.equal(feed["behavior"], "click"))[k].to_pylist() for k in keys), strict=True))
    shown = feed.filter(pc.equal(feed["label"], 1))
    clicked = list(zip(*(shown[k].to_pylist() for k in keys), strict=True))
    assert sorted(c[:2] for c in clicks) == sorted(c[:2] for c in clicked)
    found = set(clicks)
    assert all(any((user, item, t + s) in found for s in range(1, 20)) for user, item, t in clicked)


def test_names_tell_nothing(large):
    """Item numbers are unrelated to display order, popularity, category and age."""
    folder, _, _ = large
    truth = truth_of(folder)
    world = make_world(SimulateSettings(**LARGE))
    names = [int(name[1:]) for name in world.names.to_pylist()]
    place = np.argsort(names)
    number = pc.cast(pc.utf8_slice_codeunits(truth["item_id"], 1, 99), "int64").to_numpy()
    assert abs(np.corrcoef(number, truth["position"].to_numpy())[0, 1]) < 0.02
    popularity = np.bincount(number, minlength=len(names))[place.argsort()]
    for other in (popularity, world.category, world.birth.clip(0), np.arange(len(names))):
        assert abs(np.corrcoef(names, other)[0, 1]) < 0.1


def test_items_live_and_die(large):
    folder, _, _ = large
    world = make_world(SimulateSettings(**LARGE))
    log = rows_of(folder)
    log = log.filter(pc.is_valid(log["item_id"]))
    item = pc.index_in(log["item_id"], value_set=world.names).to_numpy()
    now = log["timestamp"].to_numpy() - START_TIME
    met = pc.is_in(log["behavior"], value_set=pc.cast(["impression", "search"], "string")).to_numpy()
    assert world.alive(item[met], now[met].astype(float)).all()
    first = np.full(len(world.names), np.inf)
    np.minimum.at(first, item, now)
    assert 0.2 < (first[np.isfinite(first)] > 3 * DAY).mean() < 0.8
    assert (world.death < 14 * DAY).mean() > 0.2


def last_pairs(folder):
    """Per user: the category met in search, live or content last before its last click in the feed, and that click's.

    One pair a user, so that pairs are independent.
    """
    log = events_of(folder)
    columns = [log[name].to_pylist() for name in ("user_id", "scene", "behavior", "item_id", "category_id")]
    met, pairs = {}, {}
    for user, scene, behavior, item, category in zip(*columns, strict=True):
        if scene in ("search", "live", "content") and item is not None:
            met[user] = category
        elif scene == "feed" and behavior == "click" and user in met:
            pairs[user] = (met[user], category)
    return np.array(list(pairs.values()))


@pytest.mark.parametrize(("lead", "informative"), [(0.0, False), (1.0, True)])
def test_lead_decides_what_other_scenes_tell_about_the_feed(lead, informative, tmp_path):
    sim = SimulateSettings(**CONTROL, lead=lead)
    simulate(sim, tmp_path)
    met, clicked = last_pairs(tmp_path).T
    same = (met == clicked).mean()
    # What chance alone gives: every meeting against every click.
    names, codes = np.unique(np.concatenate([met, clicked]), return_inverse=True)
    share = [np.bincount(c, minlength=len(names)) / len(met) for c in np.split(codes, 2)]
    chance = float(share[0] @ share[1])
    noise = np.sqrt(chance / len(met))
    assert len(met) > 1000
    if informative:
        assert same > 3 * chance
    else:
        assert abs(same - chance) < 4 * noise


@pytest.mark.parametrize(("chain", "follows"), [(0.0, False), (3.0, True)])
def test_chain_decides_whether_a_purchase_leads_on(chain, follows, tmp_path):
    sim = SimulateSettings(**CONTROL, chain=chain)
    simulate(sim, tmp_path)
    world = make_world(sim)
    log = events_of(tmp_path)
    names = {name: i for i, name in enumerate(world.category_names.to_pylist())}
    columns = [log[name].to_pylist() for name in ("user_id", "timestamp", "scene", "behavior", "category_id")]
    bought, clicks = [], {}
    for user, t, scene, behavior, category in zip(*columns, strict=True):
        if behavior == "purchase":
            bought.append((user, t, names[category]))
        elif behavior == "click" and scene == "feed":
            clicks.setdefault(user, []).append((t, names[category]))

    def led_on(categories):
        hits = [
            any(t < at < t + 3 * DAY and c in world.successors[category] for at, c in clicks.get(user, ()))
            for (user, t, _), category in zip(bought, categories, strict=True)
        ]
        return np.mean(hits)

    own = [category for _, _, category in bought]
    after = led_on(own)
    # The same purchases, each with the category of another one.
    chance = np.mean([led_on(np.roll(own, k)) for k in (101, 202, 303)])
    assert len(bought) > 700
    if follows:
        assert after > 2 * chance
    else:
        assert abs(after - chance) < 4 * np.sqrt(chance / len(bought))


def test_smallest_sizes(tmp_path):
    sim = SimulateSettings(users=1, items=10, categories=2, days=0.5, requests_per_user=3, candidates=1)
    summary = simulate(sim, tmp_path)
    assert summary.users <= 1 and str(summary).startswith("Simulated")


def test_settings_file_fits_the_log(tmp_path, read_back):
    simulate(SimulateSettings(**SMALL), tmp_path, settings_file=True)
    settings, log = read_back(tmp_path)
    assert settings.data.max_candidates == 5
    assert set(log.filter(pc.greater_equal(log["label"], 0))["position"].to_pylist()) == set("12345")


def test_errors(tmp_path):
    with pytest.raises(EventLogError, match=r"8 candidates out of 10 items.*data\.simulate\.items"):
        simulate(SimulateSettings(items=10, categories=2, candidates=8), tmp_path)
    with pytest.raises(EventLogError, match=r"truth\.parquet: expected the folder"):
        oracle_auc(tmp_path)
    simulate(SimulateSettings(**SMALL), tmp_path)
    with pytest.raises(ValueError, match="both classes"):
        oracle_auc(tmp_path, from_time=START_TIME + 400 * int(DAY))
