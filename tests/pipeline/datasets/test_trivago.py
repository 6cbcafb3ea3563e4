"""The RecSys Challenge 2019 adapter on rows written by hand in the official form, and on the real sample."""

import gzip
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from pipeline.datasets import trivago
from pipeline.event_log.check import check_log
from pipeline.event_log.errors import EventLogError

HEADER = (
    "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,current_filters,impressions,prices"
)
ROWS = [
    'A,s1,1541500000,1,search for destination,"Oslo, Norway",NO,"Oslo, Norway",mobile,,,',
    'A,s1,1541500010,2,interaction item image,77,NO,"Oslo, Norway",mobile,,,',
    'A,s1,1541500010,3,interaction item image,77,NO,"Oslo, Norway",mobile,,,',
    'A,s1,1541500020,4,interaction item rating,unknown,NO,"Oslo, Norway",mobile,,,',
    'A,s1,1541500030,5,clickout item,77,NO,"Oslo, Norway",mobile,Focus on Distance,9001|77|5,120|80|64',
    "B,s2,1541500005,1,filter selection,Hotel,DE,Berlin,desktop,Hotel,,",
    # Not in its own list, and a price too few.
    "B,s2,1541500040,2,clickout item,8,DE,Berlin,desktop,,5|6,70",
    # Held out: no reference.
    "B,s2,1541500050,3,clickout item,,DE,Berlin,desktop,,5|6,70|71",
    "B,s2,1541500060,4,search for item,6,DE,Berlin,desktop,,,",
]


@pytest.fixture
def official(tmp_path):
    path = tmp_path / "in" / "train.csv"
    path.parent.mkdir()
    path.write_text("\n".join([HEADER, *ROWS]) + "\n", encoding="utf-8")
    return path


def test_clickout_becomes_a_request_of_impressions(official, tmp_path, read_back):
    trivago.convert(official, tmp_path / "out")
    _, log = read_back(tmp_path / "out")
    shown = log.filter(pc.equal(log["behavior"], "impression"))
    first = shown.filter(pc.equal(shown["user_id"], "A")).to_pylist()
    assert [(r["item_id"], r["position"], r["price"], r["price_rank"], r["label"]) for r in first] == [
        ("9001", "1", 120.0, 3, 0),
        ("77", "2", 80.0, 2, 1),
        ("5", "3", 64.0, 1, 0),
    ]
    assert {r["request_id"] for r in first} == {"s1_5"}
    assert {(r["scene"], r["category_id"], r["timestamp"]) for r in first} == {
        ("result_list", "Oslo, Norway", 1541500030)
    }
    assert {(r["platform"], r["device"]) for r in first} == {("NO", "mobile")}


def test_list_without_its_reference_is_kept_with_label_0(official, tmp_path, read_back):
    summary = trivago.convert(official, tmp_path / "out")
    _, log = read_back(tmp_path / "out")
    second = log.filter(pc.and_(pc.equal(log["behavior"], "impression"), pc.equal(log["user_id"], "B"))).to_pylist()
    assert [(r["item_id"], r["label"]) for r in second] == [("5", 0), ("6", 0)]
    assert all(math.isnan(r["price"]) and math.isnan(r["price_rank"]) for r in second)
    assert (summary.requests, summary.impressions, summary.clicked) == (2, 5, 1)
    assert summary.notes == (
        "1 lists do not show the clicked hotel: all labels 0",
        "1 clickouts without a reference have no labels: left out",
        "1 lists have more or fewer prices than hotels: their prices are missing",
    )


def test_price_rank_counts_the_cheaper_ones_of_the_same_list():
    prices, row = pa.array([80.0, None, 64.0, 80.0, 90.0, 5.0], pa.float32()), np.array([0, 0, 0, 0, 0, 1])
    assert trivago._ranks(prices, row).to_pylist() == [2.0, None, 1.0, 2.0, 4.0, 1.0]


def test_every_action_is_an_event(official, tmp_path, read_back):
    trivago.convert(official, tmp_path / "out")
    settings, log = read_back(tmp_path / "out")
    events = log.filter(pc.not_equal(log["behavior"], "impression")).to_pylist()
    assert [(r["user_id"], r["timestamp"] % 100, r["scene"], r["behavior"], r["item_id"]) for r in events] == [
        ("A", 0, "search", "search_destination", ""),
        ("A", 10, "gallery", "image", "77"),
        ("A", 10, "gallery", "image", "77"),
        ("A", 20, "item_page", "rating", ""),
        ("A", 30, "outbound", "click", "77"),
        ("B", 5, "result_list", "filter", ""),
        ("B", 40, "outbound", "click", "8"),
        ("B", 60, "search", "search_item", "6"),
    ]
    report = check_log(settings.data.log, settings.data)
    # Two views in one second are two events, and a click is there once.
    assert report.duplicates == 0 and not report.impressions_as_clicks


@pytest.mark.parametrize("form", ["train.csv", "train.csv.gz", "train.parquet"])
def test_official_forms_give_the_same_log(form, official, tmp_path, read_back):
    trivago.convert(official, tmp_path / "plain")
    folder = tmp_path / "other"
    folder.mkdir()
    if form == "train.parquet":
        pq.write_table(pyarrow.csv.read_csv(official), folder / form)
    elif form == "train.csv.gz":
        (folder / form).write_bytes(gzip.compress(official.read_bytes()))
    else:
        (folder / form).write_bytes(official.read_bytes())
    trivago.convert(folder, tmp_path / "out")
    # As text, because a missing price is NaN, which equals nothing.
    assert str(read_back(tmp_path / "out")[1].to_pylist()) == str(read_back(tmp_path / "plain")[1].to_pylist())


def test_batches_do_not_matter(official, tmp_path, read_back, monkeypatch):
    trivago.convert(official, tmp_path / "whole")
    monkeypatch.setattr(trivago, "_ROWS", 2)
    trivago.convert(official, tmp_path / "cut")
    keys = [(name, "ascending") for name in ("timestamp", "behavior", "request_id", "item_id")]
    whole, cut = (read_back(tmp_path / n)[1].drop(["price", "price_rank"]).sort_by(keys) for n in ("whole", "cut"))
    assert cut.equals(whole)


def test_position_can_be_left_out(official, tmp_path, read_back):
    trivago.convert(official, tmp_path / "with")
    trivago.convert(official, tmp_path / "without", position=False)
    names = [[f.name for f in read_back(tmp_path / n)[0].data.features] for n in ("with", "without")]
    others = ["price", "price_rank", "platform", "device"]
    assert names == [["position", *others], others]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("action_type", "action", r"no column action_type.*RecSys Challenge 2019 file has the columns"),
        ("filter selection", "dance", r"row 6, column `action_type`: unknown action 'dance'.*clickout item"),
        ("1541500010,3", "soon,3", r"row 3, column `timestamp`: expected a number, got 'soon'"),
        ("1541500010,3", "1.5,3", r"row 3, column `timestamp`: expected a whole number, got '1.5'"),
        ("B,s2,1541500005", ",s2,1541500005", r"row 6, column `user_id`: expected a value"),
        (",Hotel,,\n", ",Hotel\n", r"row 6: wrong number of fields"),
    ],
)
def test_not_the_official_file(old, new, message, official, tmp_path):
    text = official.read_text(encoding="utf-8")
    assert old in text
    official.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(EventLogError, match=message):
        trivago.convert(official, tmp_path / "out")
    assert not (tmp_path / "out" / "events").exists()


def test_nothing_there(tmp_path):
    with pytest.raises(EventLogError, match=r"no train\.csv, .* in folder"):
        trivago.convert(tmp_path, tmp_path / "out")
    with pytest.raises(EventLogError, match="no file or folder"):
        trivago.convert(tmp_path / "absent", tmp_path / "out")


def test_real_sample(real_data, tmp_path, read_back):
    source = real_data("trivago_recsys19") / "train_sample.parquet"
    summary = trivago.convert(source, tmp_path / "out")
    assert (summary.requests, summary.impressions, summary.events, summary.users) == (9_481, 217_814, 70_137, 4_598)
    assert summary.click_rate == pytest.approx(0.0435, abs=5e-5)
    settings, _ = read_back(tmp_path / "out")
    report = check_log(settings.data.log, settings.data)
    assert report.largest_request == 25 and not report.broken and not report.warnings
    assert report.impressions_with_history == pytest.approx(0.83, abs=5e-3)
