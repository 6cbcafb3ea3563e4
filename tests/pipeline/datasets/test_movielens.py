"""The MovieLens adapter on rows written by hand in every published form, and on the real 100K."""

import csv

import pyarrow.compute as pc
import pytest

from pipeline.datasets import movielens
from pipeline.event_log.check import check_log
from pipeline.event_log.errors import EventLogError

# user, item, stars, second
RATINGS = [("7", "31", 4, 900_000_000), ("7", "32", 3, 900_000_000), ("8", "31", 5, 900_000_050)]
FLAGS = {"31": "0|0|1|0|0|1" + "|0" * 13, "32": "0|" * 18 + "0"}


def lines(separator, template="{}"):
    return [template.format(separator.join(map(str, row))) for row in RATINGS]


FORMS = {
    "100k": {
        "u.data": lines("\t"),
        "u.item": [f"31|Caf\xe9 (1990)|01-Jan-1990||http://x|{FLAGS['31']}", f"32|Road (1991)||||{FLAGS['32']}"],
        "u.user": ["7|24|M|technician|85711", "8|53|F|other|94043"],
    },
    "recbole": {
        "ml.inter": ["user_id:token\titem_id:token\trating:float\ttimestamp:float", *lines("\t", "{}.0")],
        "ml.item": [
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
            "31\tCaf\xe9\t1990\tAdventure Comedy",
            "32\tRoad\t1991\t",
        ],
        "ml.user": [
            "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token",
            "7\t24\tM\ttechnician\t85711",
            "8\t53\tF\tother\t94043",
        ],
    },
    "1m": {
        "ratings.dat": lines("::"),
        "movies.dat": ["31::Caf\xe9 (1990)::Adventure|Comedy", "32::Road (1991)::(no genres listed)"],
        "users.dat": ["7::M::24::technician::85711", "8::F::53::other::94043"],
    },
    "20m": {
        "ratings.csv": ["userId,movieId,rating,timestamp", *lines(",")],
        "movies.csv": [
            "movieId,title,genres",
            '31,"Caf\xe9 (1990)",Adventure|Comedy',
            "32,Road (1991),(no genres listed)",
        ],
    },
}


@pytest.fixture
def release(tmp_path):
    """Writes a release into a folder; `without` names files to leave out."""

    def _write(form, without=()):
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        for name, content in FORMS[form].items():
            if name not in without:
                encoding = "latin-1" if form in ("100k", "1m") else "utf-8"
                (folder / name).write_text("\n".join(content) + "\n", encoding=encoding)
        return folder

    return _write


@pytest.mark.parametrize("form", FORMS)
def test_every_form(form, release, tmp_path, read_back):
    summary = movielens.convert(release(form), tmp_path / "out")
    settings, log = read_back(tmp_path / "out")
    names = ["user_id", "timestamp", "behavior", "item_id", "category_id", "label", "request_id"]
    assert [tuple(r.values()) for r in log.select(names).to_pylist()] == [
        ("7", 900_000_000, "impression", "31", "Adventure", 1, "7-31"),
        ("7", 900_000_000, "impression", "32", "", 0, "7-32"),
        ("8", 900_000_050, "impression", "31", "Adventure", 1, "8-31"),
        ("7", 900_000_000, "like", "31", "Adventure", -1, ""),
        ("7", 900_000_000, "dislike", "32", "", -1, ""),
        ("8", 900_000_050, "like", "31", "Adventure", -1, ""),
    ]
    assert set(log["scene"].to_pylist()) == {"movies"}
    if form == "20m":
        assert settings.data.features == ()
    else:
        users = log.filter(pc.equal(log["item_id"], "31")).to_pylist()
        assert {(u["user_id"], u["gender"], u["occupation"], u["age"]) for u in users} == {
            ("7", "M", "technician", 24.0),
            ("8", "F", "other", 53.0),
        }
    with open(tmp_path / "out" / "items.csv", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1] == ["31", "Caf\xe9 (1990)", "Adventure"]
    assert (summary.requests, summary.impressions, summary.clicked, summary.events) == (3, 3, 2, 3)


def test_ratings_of_one_second_are_requests_of_one_and_clicks_are_there_once(release, tmp_path, read_back):
    movielens.convert(release("1m"), tmp_path / "out")
    settings, _ = read_back(tmp_path / "out")
    report = check_log(settings.data.log, settings.data)
    assert (report.requests, report.largest_request, report.duplicates) == (3, 1, 0)
    assert not report.impressions_as_clicks and report.events == 3


def test_ratings_file_alone(release, tmp_path, read_back):
    folder = release("100k", without=("u.item", "u.user"))
    summary = movielens.convert(folder / "u.data", tmp_path / "out")
    settings, log = read_back(tmp_path / "out")
    assert set(log["category_id"].to_pylist()) == {""} and settings.data.features == ()
    assert summary.notes == ("no item file beside u.data (u.item): no categories", "no user file: no user features")
    assert not (tmp_path / "out" / "items.csv").exists()


def test_half_stars_and_threshold(release, tmp_path, read_back):
    folder = release("20m")
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,31,3.5,900000000\n1,32,3.0,900000001\n")
    movielens.convert(folder, tmp_path / "out", like_from=3.5)
    _, log = read_back(tmp_path / "out")
    assert log["label"].to_pylist() == [1, 0, -1, -1]


@pytest.mark.parametrize(
    ("form", "name", "content", "message"),
    [
        ("100k", "u.data", "1\t2\t3\n", r"u\.data, row 1: expected user, item, rating and time separated by tabs; got"),
        ("1m", "ratings.dat", "1::2::3::4\n1::2\n", r"ratings\.dat, row 2: .*separated by `::`"),
        ("20m", "ratings.csv", "userId,movieId,rating,timestamp\n1,2,good,4\n", r"ratings\.csv: .*'good'"),
        ("20m", "ratings.csv", "user,movieId,rating,timestamp\n", r"no column for user_id.*Expected userId,movieId"),
        ("20m", "ratings.csv", "userId,movieId,rating,timestamp\n", r"no ratings in it"),
        ("100k", "u.user", "7|old|M|technician|85711\n", r"u\.user, line 1: expected a user"),
        ("1m", "movies.dat", "31::Caf\n", r"movies\.dat, line 1: expected an item"),
    ],
)
def test_not_as_published(form, name, content, message, release, tmp_path):
    folder = release(form)
    (folder / name).write_text(content)
    with pytest.raises(EventLogError, match=message):
        movielens.convert(folder, tmp_path / "out")


def test_nothing_there(tmp_path):
    (tmp_path / "odd.txt").write_text("x")
    with pytest.raises(EventLogError, match=r"looked for u\.data, \*\.inter, ratings\.dat, ratings\.csv in folder"):
        movielens.convert(tmp_path, tmp_path / "out")
    with pytest.raises(EventLogError, match=r"odd\.txt is none of u\.data"):
        movielens.convert(tmp_path / "odd.txt", tmp_path / "out")
    with pytest.raises(EventLogError, match="there is no file or folder"):
        movielens.convert(tmp_path / "absent", tmp_path / "out")


def test_real_100k(real_data, tmp_path, read_back):
    summary = movielens.convert(real_data("movielens_100k"), tmp_path / "out")
    assert (summary.users, summary.requests, summary.impressions, summary.events) == (943, 100_000, 100_000, 100_000)
    assert summary.click_rate == pytest.approx(0.554, abs=5e-4)
    settings, _ = read_back(tmp_path / "out")
    report = check_log(settings.data.log, settings.data)
    assert (report.items, report.first_time[:10], report.last_time[:10]) == (1_682, "1997-09-20", "1998-04-22")
    assert report.median_events_per_user == 65 and not report.warnings
