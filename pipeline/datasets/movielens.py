"""MovieLens -> an event log.

In: the ratings of any published size, with the files beside them where there are any:

| release | ratings | items | users |
| --- | --- | --- | --- |
| 100K | `u.data` (tabs, no header) | `u.item` | `u.user` |
| 100K and others in RecBole's form | `*.inter` | `*.item` | `*.user` |
| 1M, 10M | `ratings.dat` (`::`) | `movies.dat` | `users.dat` (1M) |
| 20M and later | `ratings.csv` | `movies.csv` | - |

Out: `OUT/events/*.parquet`, `OUT/settings.yaml` and, with an item file, `OUT/items.csv` (item_id, title, category).

How it is read: a rating is one impression in a request of its own, label 1 from `like_from` stars up (default 4), and,
at the same second, an event `like` or `dislike` of the moveline, so that movelines hold what was not liked as well. The
label of a rating is thus never in its own moveline, which ends before that second. Everything happens in the one scene
`movies`; the category is the movie's first genre. Gender, occupation and age are user features where the release has
them.
"""

import os
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipeline.datasets import movielens_files as files
from pipeline.datasets.writer import ConvertSummary, EventWriter, write_settings
from pipeline.event_log.errors import EventLogError

SCENE = "movies"
_BATCH_ROWS = 500_000


def convert(in_path: str | os.PathLike, out_folder: str | os.PathLike, like_from: float = 4.0) -> ConvertSummary:
    """Converts a MovieLens release.

    Args:
      in_path: the ratings file or the folder that it lies in. Files of items and users are looked for beside it.
      out_folder: made if need be; an earlier conversion there is replaced.
      like_from: the lowest rating, in stars, that counts as a click.

    Raises:
      EventLogError: no ratings file of a known form, or a row that does not have it.
    """
    release = files.find(pathlib.Path(in_path))
    items = files.read_items(release)
    users = files.read_users(release)
    unknown_items = 0
    with EventWriter(out_folder) as events:
        for ratings in files.read_ratings(release, _BATCH_ROWS):
            table, unknown = _rows(ratings, items, users, like_from)
            unknown_items += unknown
            events.write(table)
    if not events.rows:
        raise EventLogError(f"{release.ratings}: no ratings in it. Give the file as it was published.")
    settings = write_settings(
        out_folder,
        "movielens",
        {
            "click_behavior": "like",
            "positive_behaviors": ["like"],
            # Every rating has an event of its own; its impression must not enter the moveline a second time.
            "impressions_as_clicks": "never",
            "max_candidates": 1,
            "features": [
                {"name": name, "owner": "user", "kind": "numeric" if name == "age" else "categorical"}
                for name in (users.column_names[1:] if users is not None else [])
            ],
        },
        "MovieLens.",
    )
    notes = []
    if items is None:
        notes.append(f"no item file beside {release.ratings.name} ({', '.join(release.item_names)}): no categories")
    else:
        pa.csv.write_csv(items, pathlib.Path(out_folder) / "items.csv")
        notes.append(f"titles of {items.num_rows:,} movies in {pathlib.Path(out_folder) / 'items.csv'}")
        if unknown_items:
            notes.append(f"{unknown_items:,} ratings are of movies that the item file lacks: no category")
    if users is None:
        notes.append("no user file: no user features")
    return events.summary(f"MovieLens from {release.ratings}", settings, tuple(notes))


def _rows(ratings: pa.Table, items: pa.Table | None, users: pa.Table | None, like_from: float) -> tuple[pa.Table, int]:
    """Ratings -> an impression and an event each; and how many are of movies without an entry in `items`."""
    liked = pc.greater_equal(ratings["rating"], like_from)
    category, unknown = pa.nulls(ratings.num_rows, pa.string()), 0
    if items is not None:
        category = _look_up(ratings["item_id"], items, "category")
        unknown = category.null_count
    shared = {"user_id": ratings["user_id"], "timestamp": ratings["timestamp"]}
    about = {"item_id": ratings["item_id"], "category_id": category}
    of_user = {}
    if users is not None:
        of_user = {name: _look_up(ratings["user_id"], users, name) for name in users.column_names[1:]}
    n = ratings.num_rows
    scene = pa.array(np.repeat(SCENE, n), pa.string())
    impressions = pa.table(
        {
            **shared,
            "scene": scene,
            "behavior": pa.array(np.repeat("impression", n), pa.string()),
            **about,
            "label": pc.cast(liked, pa.int8()),
            # Without an id, ratings of one second would be one request.
            "request_id": pc.binary_join_element_wise(ratings["user_id"], ratings["item_id"], "-"),
            **of_user,
        }
    )
    events = pa.table(
        {
            **shared,
            "scene": scene,
            "behavior": pc.if_else(liked, "like", "dislike"),
            **about,
            "label": pa.nulls(n, pa.int8()),
            "request_id": pa.nulls(n, pa.string()),
            **of_user,
        }
    )
    return pa.concat_tables([impressions, events]), unknown


def _look_up(keys: pa.ChunkedArray, table: pa.Table, name: str) -> pa.ChunkedArray:
    """Values of a column by the table's first column; null where a key is not in it."""
    place = pc.index_in(keys, value_set=table.column(0).combine_chunks())
    return table[name].take(place)
