"""The files of the MovieLens releases, whatever their separators and headers.

In: a path. Out: which release it is, and its ratings, items and users as Arrow tables with common names.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipeline.event_log.errors import EventLogError

# The flags of u.item, in its order; u.genre names the same.
# fmt: off
GENRES_100K = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]
# fmt: on
NO_GENRE = ("", "(no genres listed)")
_RATINGS = {
    "user_id": pa.string(),
    "item_id": pa.string(),
    "rating": pa.float64(),
    "timestamp": pa.float64(),
}


@dataclasses.dataclass(frozen=True)
class Release:
    """A release as found on disk. `form` is `data`, `inter`, `dat` or `csv`, after the ratings file's suffix."""

    form: str
    ratings: pathlib.Path

    @property
    def item_names(self) -> tuple[str, ...]:
        """Names that the item file may have."""
        return {
            "data": ("u.item",),
            "inter": (f"{self.ratings.stem}.item",),
            "dat": ("movies.dat",),
            "csv": ("movies.csv",),
        }[self.form]

    @property
    def user_names(self) -> tuple[str, ...]:
        """Names that the user file may have."""
        return {"data": ("u.user",), "inter": (f"{self.ratings.stem}.user",), "dat": ("users.dat",), "csv": ()}[
            self.form
        ]

    def beside(self, names: tuple[str, ...]) -> pathlib.Path | None:
        """The first of these names that lies beside the ratings."""
        return next((p for p in (self.ratings.with_name(name) for name in names) if p.is_file()), None)


def find(path: pathlib.Path) -> Release:
    """The release at a path: a ratings file, or a folder with one.

    Raises:
      EventLogError: nothing of a known form is there.
    """
    patterns = {"data": "u.data", "inter": "*.inter", "dat": "ratings.dat", "csv": "ratings.csv"}
    suffixes = {".data": "data", ".inter": "inter", ".dat": "dat", ".csv": "csv"}
    if path.is_file() and path.suffix in suffixes:
        return Release(suffixes[path.suffix], path)
    if path.is_dir():
        for form, pattern in patterns.items():
            for found in sorted(path.glob(pattern)):
                return Release(form, found)
        what = f"looked for {', '.join(patterns.values())} in folder {path} and found none"
    elif path.is_file():
        what = f"{path} is none of {', '.join(patterns.values())}"
    else:
        what = f"there is no file or folder {path}"
    raise EventLogError(f"MovieLens: {what}. Give the ratings file of a release, or the folder that it lies in.")


def read_ratings(release: Release, batch_rows: int) -> Iterator[pa.Table]:
    """Ratings: `user_id`, `item_id` string, `timestamp` int64 (unix seconds), `rating` float64 (stars)."""
    path, source = release.ratings, str(release.ratings)
    if release.form == "dat":
        # Arrow takes one byte as the separator; the ratings hold numbers alone.
        source = pa.BufferReader(path.read_bytes().replace(b"::", b"\t"))
    separator = "," if release.form == "csv" else "\t"
    header = _ratings_header(release)
    names = list(_RATINGS) if header is None else header
    wrong: list[pa.csv.InvalidRow] = []

    def keep(row) -> str:
        wrong.append(row)
        return "error"

    offset = 0 if header is None else 1
    try:
        reader = pa.csv.open_csv(
            source,
            pa.csv.ReadOptions(use_threads=False, column_names=names, skip_rows=offset, block_size=8 << 20),
            pa.csv.ParseOptions(delimiter=separator, quote_char=False, invalid_row_handler=keep),
            pa.csv.ConvertOptions(column_types=_RATINGS, include_columns=list(_RATINGS), null_values=[]),
        )
        for block in reader:
            table = pa.Table.from_batches([block])
            for start in range(0, table.num_rows, batch_rows):
                part = table.slice(start, batch_rows)
                yield part.set_column(3, "timestamp", pc.cast(pc.floor(part["timestamp"]), pa.int64()))
    except pa.ArrowInvalid as e:
        where = f", row {wrong[0].number}" if wrong and wrong[0].number else ""
        what = f"got {wrong[0].text!r}" if wrong else str(e).split("\n")[0]
        raise EventLogError(
            f"{path}{where}: expected user, item, rating and time separated by "
            f"{'`::`' if release.form == 'dat' else 'commas' if separator == ',' else 'tabs'}; {what}. "
            "Give the file as it was published."
        ) from e


def _ratings_header(release: Release) -> list[str] | None:
    """Column names under our own names, or None for files without a header."""
    if release.form in ("data", "dat"):
        return None
    with open(release.ratings, encoding="utf-8-sig") as file:
        header = file.readline().rstrip("\r\n").split("\t" if release.form == "inter" else ",")
    ours = {"userId": "user_id", "movieId": "item_id"} if release.form == "csv" else {}
    names = [ours.get(name, name) for name in (field.partition(":")[0] for field in header)]
    absent = [name for name in _RATINGS if name not in names]
    if absent:
        expected = "userId,movieId,rating,timestamp" if release.form == "csv" else "user_id:token, item_id:token, ..."
        raise EventLogError(
            f"{release.ratings}: no column for {', '.join(absent)}; the header is {', '.join(header)}. "
            f"Expected {expected}. Give the file as it was published."
        )
    return names


def read_items(release: Release) -> pa.Table | None:
    """`item_id`, `title`, `category` (the first genre, null for none) as strings; None without an item file."""
    path = release.beside(release.item_names)
    if path is None:
        return None
    rows = []
    for number, fields in _rows(path, release.form):
        try:
            rows.append(_item(fields, release.form))
        except (IndexError, ValueError) as e:
            raise _strange(path, number, fields, "an item") from e
    ids, titles, categories = zip(*rows, strict=True) if rows else ((), (), ())
    text = pa.string()
    return pa.table(
        {"item_id": pa.array(ids, text), "title": pa.array(titles, text), "category": pa.array(categories, text)}
    )


def _item(fields: list[str] | dict[str, str], form: str) -> tuple[str, str, str | None]:
    if form == "inter":
        genres = fields.get("class", fields.get("genre", "")).split()
        title = fields.get("movie_title", "")
        year = fields.get("release_year", "")
        return fields["item_id"], f"{title} ({year})" if year else title, genres[0] if genres else None
    if form == "data":
        flags = fields[-len(GENRES_100K) :]
        genre = GENRES_100K[flags.index("1")] if "1" in flags else None
        return fields[0], fields[1], genre
    genre = fields[2].split("|")[0]
    return fields[0], fields[1], None if genre in NO_GENRE else genre


def read_users(release: Release) -> pa.Table | None:
    """`user_id`, `gender`, `occupation` string, `age` float32 (years); None without a user file."""
    path = release.beside(release.user_names)
    if path is None:
        return None
    rows = []
    for number, fields in _rows(path, release.form):
        try:
            if release.form == "inter":
                user = (fields["user_id"], fields["gender"], fields["occupation"], float(fields["age"]))
            elif release.form == "data":
                user = (fields[0], fields[2], fields[3], float(fields[1]))
            else:
                user = (fields[0], fields[1], fields[3], float(fields[2]))
        except (KeyError, IndexError, ValueError) as e:
            raise _strange(path, number, fields, "a user") from e
        rows.append(user)
    ids, genders, occupations, ages = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table(
        {
            "user_id": pa.array(ids, pa.string()),
            "gender": pa.array(genders, pa.string()),
            "occupation": pa.array(occupations, pa.string()),
            "age": pa.array(ages, pa.float32()),
        }
    )


def _rows(path: pathlib.Path, form: str) -> Iterator[tuple[int, list[str] | dict[str, str]]]:
    """Line number and fields of an item or user file: lists without a header, else dicts by name (`csv`: lists)."""
    # The older releases are Latin-1.
    encoding = "latin-1" if form in ("data", "dat") else "utf-8-sig"
    with open(path, encoding=encoding, newline="") as file:
        if form == "csv":
            lines = csv.reader(file)
            next(lines, None)
            yield from enumerate(lines, start=2)
            return
        separator = {"data": "|", "dat": "::", "inter": "\t"}[form]
        names: list[str] = []
        for number, line in enumerate(file, start=1):
            fields = line.rstrip("\r\n").split(separator)
            if form == "inter" and number == 1:
                names = [field.partition(":")[0] for field in fields]
            elif fields != [""]:
                yield number, dict(zip(names, fields, strict=False)) if names else fields


def _strange(path: pathlib.Path, number: int, fields: list[str] | dict[str, str], what: str) -> EventLogError:
    return EventLogError(
        f"{path}, line {number}: expected {what} as MovieLens publishes them, got {fields}. "
        "Give the file as it was published, or move it away to do without."
    )
