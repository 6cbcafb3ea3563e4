"""Event logs for `data_path`, of three kinds that cost an ExampleGen most differently.

Out: a folder of CSV files and the settings to read them by. Nothing in these logs is to be learned.
"""

import json
import pathlib
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.csv

# Impressions a request, and the share of rows that are impressions.
CSV_LOGS = {"one candidate": (1, 0.5), "ten candidates": (10, 0.5), "no impressions": (1, 0.005)}
_ROWS_OF_A_USER = 200
_FILES = 8
_DAYS = 30
_START = 1_700_000_000


def write_csv_log(folder: pathlib.Path, kind: str, rows: int, seed: int = 1) -> None:
    """Writes a log unless it is there.

    Every user has 200 rows, so that movelines are longer than 50 events for most requests of the later splits.

    Args:
      folder: gets `events/` and `settings.yaml`.
      kind: of `CSV_LOGS`.
      rows: in all.
      seed: of what the rows are.
    """
    settings = folder / "settings.yaml"
    if settings.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "events").mkdir(parents=True)
    candidates, share = CSV_LOGS[kind]
    table = _rows(rows, candidates, share, np.random.default_rng(seed))
    for number in range(_FILES):
        part = table.slice(number * rows // _FILES, (number + 1) * rows // _FILES - number * rows // _FILES)
        pa.csv.write_csv(part, folder / "events" / f"part-{number:03d}.csv")
    # As JSON, which is YAML too.
    content = {"name": "log", "data": {"log": str(folder / "events"), "max_candidates": candidates}}
    settings.write_text(json.dumps(content), encoding="utf-8")


def _rows(rows: int, candidates: int, share: float, random: np.random.Generator) -> pa.Table:
    """Impressions in requests of `candidates`, then other events; mixed, as a log is that several servers write."""
    users = max(rows // _ROWS_OF_A_USER, 1)
    requests = max(round(rows * share / candidates), 1)
    shown = requests * candidates

    def of_request(values: np.ndarray) -> np.ndarray:
        return np.repeat(values, candidates)

    others = rows - shown
    user = np.concatenate([of_request(random.integers(users, size=requests)), random.integers(users, size=others)])
    second = np.concatenate(
        [of_request(random.integers(_DAYS * 86400, size=requests)), random.integers(_DAYS * 86400, size=others)]
    )
    item = random.integers(20_000, size=rows)
    impression = np.arange(rows) < shown
    behavior = np.where(impression, "impression", random.choice(["click", "cart", "visit"], rows))
    request = np.where(impression, np.char.add("r", (np.arange(rows) // candidates).astype(str)), "")
    columns = {
        "user_id": np.char.add("user-", user.astype(str)),
        "timestamp": _START + second,
        "scene": np.array(["feed", "search", "live"])[(second // 60) % 3],
        "behavior": behavior,
        "item_id": np.char.add("item-", item.astype(str)),
        "category_id": np.char.add("category-", (item % 200).astype(str)),
        "label": pa.array(random.integers(2, size=rows), mask=~impression),
        "request_id": request,
    }
    return pa.table(columns).take(random.permutation(rows))
