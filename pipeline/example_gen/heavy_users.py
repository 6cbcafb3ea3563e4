"""Users with more rows than a person leaves: of each the newest rows, as many as the settings allow.

In: canonical rows. Out: the rows that stay, and how many do not. The newest rows of parts, taken together, hold the
newest rows of the whole: so it may be done before the shuffle and again after it, and which parts there were does not
show.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from amen_tf import features


def newest_rows(events: pa.Table, limit: int) -> tuple[pa.Table, int]:
    """Of every user the newest `limit` rows, repeated rows included; the number of rows left out.

    Rows of one second are told apart by their other columns, so that the order of the rows decides nothing.
    """
    if events.num_rows <= limit:
        return events, 0
    user = events.column(features.USER_ID).combine_chunks().dictionary_encode()
    code = user.indices.to_numpy(zero_copy_only=False)
    heavy = np.flatnonzero(np.bincount(code) > limit)
    if not len(heavy):
        return events, 0
    rows = np.flatnonzero(np.isin(code, heavy))
    theirs = events.take(pa.array(rows))
    others = [(name, "ascending") for name in events.column_names if name not in (features.USER_ID, features.TIMESTAMP)]
    keys = [(features.USER_ID, "ascending"), (features.TIMESTAMP, "descending"), *others]
    order = rows[pc.sort_indices(theirs, sort_keys=keys).to_numpy(zero_copy_only=False)]
    sorted_code = code[order]
    first = np.flatnonzero(np.r_[True, sorted_code[1:] != sorted_code[:-1]])
    place = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)]))
    keep = np.ones(events.num_rows, bool)
    keep[order[place >= limit]] = False
    return events.filter(pa.array(keep)), int((~keep).sum())
