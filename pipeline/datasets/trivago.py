"""RecSys Challenge 2019 (trivago): sessions of hotel search -> an event log.

In: the official file (`train.csv`, also gzipped or as Parquet, or a folder with it): one action a row, 12 columns. Out:
`OUT/events/*.parquet` and `OUT/settings.yaml`.

How it is read:

- Every `clickout item` row is one **request** (`request_id` = session and step): its `impressions` become impression
  rows in scene `result_list`, label 1 for the hotel that is the row's `reference`. A list without its reference (about
  one in 13,600: the hotel was shown elsewhere on the page) keeps label 0 throughout, which is what happened to the
  hotels that it shows. A clickout whose reference is empty (the challenge's held-out test rows) has no known labels:
  neither impressions nor a click are written, and the summary counts it.
- Every action, the clickout itself included, is also an **event** of the moveline (`SURFACES`), at its own time. A
  request's moveline holds earlier seconds alone, so a click never explains itself. The log has whole seconds: the order
  of steps within one second is not kept. Actions carry session and step as `request_id` too, because several views of
  one hotel in one second would otherwise be exact duplicates, which count as one event.
- Category is the city of the search, of impressions and events alike. Item ids stay as they are, as text: numbering
  them anew in the order of display would tell the position to a hash.
- `price` is the price shown, `price_rank` its rank in the list, 1 for the cheapest: what a price means depends on those
  beside it, and a model that scores candidates one by one cannot see them. `position` is the place, 1 at the top.
  Position predicts the click better than anything else, so figures should be given with and without it:
  `position=False` leaves it out of the settings.
"""

import os
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.datasets import tables
from pipeline.datasets.writer import ConvertSummary, EventWriter, write_settings
from pipeline.event_log.errors import EventLogError

COLUMNS = (
    "user_id",
    "session_id",
    "timestamp",
    "step",
    "action_type",
    "reference",
    "platform",
    "city",
    "device",
    "impressions",
    "prices",
)
CLICKOUT = "clickout item"
# Action -> scene (the surface it happens on), behavior, and whether `reference` is an item.
SURFACES = {
    CLICKOUT: ("outbound", "click", True),
    "interaction item image": ("gallery", "image", True),
    "interaction item info": ("item_page", "info", True),
    "interaction item rating": ("item_page", "rating", True),
    "interaction item deals": ("item_page", "deals", True),
    "search for item": ("search", "search_item", True),
    "search for destination": ("search", "search_destination", False),
    "search for poi": ("search", "search_poi", False),
    "filter selection": ("result_list", "filter", False),
    "change of sort order": ("result_list", "sort", False),
}
LONGEST_LIST = 25
_ROWS = 200_000
_LOOKED_FOR = ("train.csv", "train.csv.gz", "train.parquet", "train*.csv", "train*.csv.gz", "train*.parquet")


def convert(in_path: str | os.PathLike, out_folder: str | os.PathLike, position: bool = True) -> ConvertSummary:
    """Converts the official training file; memory stays bounded whatever its size.

    Args:
      in_path: the file, or a folder with it.
      out_folder: made if need be; an earlier conversion there is replaced.
      position: declare the display position as a candidate feature. The column is written either way.

    Raises:
      EventLogError: no such file, or one that is not the official log.
    """
    path = _find(pathlib.Path(in_path))
    without_reference = unlabelled = unequal_prices = 0
    with EventWriter(out_folder) as events:
        for table, first_row in tables.read_tables(path, COLUMNS, "RecSys Challenge 2019", _ROWS):
            base = _base(table, path, first_row)
            clickout = pc.equal(base["action_type"], CLICKOUT)
            known = pc.not_equal(base["reference"], "")
            unlabelled += pc.sum(pc.and_not(clickout, known)).as_py() or 0
            base = base.filter(pc.or_(pc.invert(clickout), known))
            shown, clicked_lists, wrong_prices = _impressions(base.filter(pc.equal(base["action_type"], CLICKOUT)))
            without_reference += len(clicked_lists) - int(clicked_lists.sum())
            unequal_prices += wrong_prices
            events.write(pa.concat_tables([_actions(base), shown]))
    if not events.rows:
        raise EventLogError(f"{path}: no rows. Give the RecSys Challenge 2019 training file as it was published.")
    features = [
        {"name": "price", "owner": "candidate", "kind": "numeric"},
        {"name": "price_rank", "owner": "candidate", "kind": "numeric", "buckets": LONGEST_LIST},
        {"name": "platform", "owner": "user", "kind": "categorical"},
        {"name": "device", "owner": "context", "kind": "categorical"},
    ]
    if position:
        features.insert(0, {"name": "position", "owner": "candidate", "kind": "categorical"})
    items = [behavior for _, behavior, is_item in SURFACES.values() if is_item]
    settings = write_settings(
        out_folder,
        "trivago" if position else "trivago-without-position",
        {
            "click_behavior": "click",
            "positive_behaviors": items,
            # Clickouts are rows of their own; their impressions must not enter movelines a second time.
            "impressions_as_clicks": "never",
            "max_candidates": LONGEST_LIST,
            "features": features,
        },
        "RecSys Challenge 2019 (trivago).",
    )
    counts = (
        (without_reference, "lists do not show the clicked hotel: all labels 0"),
        (unlabelled, "clickouts without a reference have no labels: left out"),
        (unequal_prices, "lists have more or fewer prices than hotels: their prices are missing"),
    )
    notes = tuple(f"{count:,} {what}" for count, what in counts if count)
    return events.summary(f"RecSys Challenge 2019 from {path}", settings, notes)


def _find(path: pathlib.Path) -> str:
    if path.is_file():
        return str(path)
    if path.is_dir():
        for pattern in _LOOKED_FOR:
            for found in sorted(path.glob(pattern)):
                return str(found)
    what = f"no {', '.join(_LOOKED_FOR)} in folder {path}" if path.is_dir() else f"no file or folder {path}"
    raise EventLogError(
        f"RecSys Challenge 2019: {what}. Expected the official training file with the columns {', '.join(COLUMNS)}; "
        "give its path."
    )


def _base(table: pa.Table, path: str, first_row: int) -> pa.Table:
    """Checked rows with what impressions and actions share: times as int64, request ids, unknown references as ""."""
    actions = table["action_type"]
    strange = pc.invert(pc.is_in(actions, value_set=pa.array(list(SURFACES))))
    if pc.any(strange).as_py():
        at = pc.index(strange, True).as_py()
        raise EventLogError(
            f"{path}, row {first_row + at}, column `action_type`: unknown action {actions[at].as_py()!r}. "
            f"Expected one of {', '.join(SURFACES)}."
        )
    session = tables.filled(table, "session_id", path, first_row)
    reference = table["reference"]
    return pa.table(
        {
            "user_id": tables.filled(table, "user_id", path, first_row),
            "timestamp": tables.integers(table, "timestamp", path, first_row),
            "action_type": actions,
            "reference": pc.if_else(pc.equal(reference, "unknown"), "", reference),
            "city": table["city"],
            "platform": table["platform"],
            "device": table["device"],
            "request_id": pc.binary_join_element_wise(session, table["step"].combine_chunks(), "_"),
            "impressions": table["impressions"],
            "prices": table["prices"],
        }
    )


def _actions(base: pa.Table) -> pa.Table:
    names = list(SURFACES)
    action = pc.index_in(base["action_type"], value_set=pa.array(names))
    scenes, behaviors, are_items = zip(*SURFACES.values(), strict=True)
    is_item = pa.array(are_items).take(action.combine_chunks())
    n = base.num_rows
    return _event_table(
        base,
        scene=pa.array(scenes).take(action.combine_chunks()),
        behavior=pa.array(behaviors).take(action.combine_chunks()),
        item_id=pc.if_else(is_item, base["reference"], ""),
        label=pa.nulls(n, pa.int8()),
        request_id=base["request_id"],
        position=pa.nulls(n, pa.string()),
        price=pa.nulls(n, pa.float32()),
        price_rank=pa.nulls(n, pa.float32()),
    )


def _impressions(clickouts: pa.Table) -> tuple[pa.Table, np.ndarray, int]:
    """Clickout rows -> impression rows; whether each list shows its reference; lists with an odd number of prices."""
    lists = pc.split_pattern(clickouts["impressions"].combine_chunks(), "|")
    lengths = pc.list_value_length(lists).to_numpy().astype(np.int64)
    lengths = np.where(pc.equal(clickouts["impressions"], "").to_numpy(), 0, lengths)
    lists = pc.split_pattern(clickouts.filter(pa.array(lengths > 0))["impressions"].combine_chunks(), "|")
    items = lists.flatten()
    row = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
    base = clickouts.take(pa.array(row))
    label = pc.cast(pc.equal(items, base["reference"].combine_chunks()), pa.int8())
    prices, wrong_prices = _prices(clickouts["prices"].combine_chunks(), lengths)
    n = len(row)
    table = _event_table(
        base,
        scene=pa.array(["result_list"] * n, pa.string()),
        behavior=pa.array(["impression"] * n, pa.string()),
        item_id=items,
        label=label,
        request_id=base["request_id"],
        position=pc.cast(pa.array(position), pa.string()),
        price=prices,
        price_rank=_ranks(prices, row),
    )
    clicked = np.bincount(row, weights=label.to_numpy(), minlength=len(lengths)) > 0
    return table, clicked[lengths > 0], wrong_prices


def _prices(texts: pa.Array, lengths: np.ndarray) -> tuple[pa.Array, int]:
    """Prices of all lists in a row: float32 `[sum of lengths]`, null throughout lists whose counts differ."""
    lists = pc.split_pattern(texts, "|")
    counts = pc.list_value_length(lists).to_numpy().astype(np.int64)
    fitting = counts == lengths
    values, missing, broken = tables.number(lists.filter(pa.array(fitting)).flatten())
    filled = np.full(int(lengths.sum()), np.nan)
    filled[np.repeat(fitting, lengths)] = values
    return pa.array(filled.astype(np.float32), mask=np.isnan(filled)), int((~fitting & (lengths > 0)).sum())


def _ranks(prices: pa.Array, row: np.ndarray) -> pa.Array:
    """1 + how many of the same list are cheaper, float32; null where the price is.

    Args:
      prices: of all lists in a row.
      row: which list each belongs to, ascending.
    """
    values = prices.to_numpy(zero_copy_only=False)
    order = np.lexsort((values, row))
    ordered, lists = values[order], row[order]
    new_list = np.r_[True, lists[1:] != lists[:-1]]
    new_value = new_list | np.r_[True, ordered[1:] != ordered[:-1]]
    place = np.arange(len(order))
    first_of_list = np.maximum.accumulate(np.where(new_list, place, 0))
    first_of_value = np.maximum.accumulate(np.where(new_value, place, 0))
    ranks = np.empty(len(order), np.float32)
    ranks[order] = 1 + first_of_value - first_of_list
    return pa.array(ranks, mask=np.isnan(values))


def _event_table(base: pa.Table, **columns) -> pa.Table:
    return pa.table(
        {
            "user_id": base["user_id"],
            "timestamp": base["timestamp"],
            "scene": columns["scene"],
            "behavior": columns["behavior"],
            "item_id": columns["item_id"],
            "category_id": base["city"],
            "label": columns["label"],
            "request_id": columns["request_id"],
            "position": columns["position"],
            "price": columns["price"],
            "price_rank": columns["price_rank"],
            "platform": base["platform"],
            "device": base["device"],
        }
    )
