"""Split borders given as fractions -> unix seconds.

In: a log, the run's `DataSettings` and fractions of its labelled impressions. Out: one time per fraction.
"""

from collections.abc import Sequence

import numpy as np

from amen_tf import features
from amen_tf.config import DataSettings
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.reader import read_batches, require_good
from pipeline.event_log.spans import log_files


def impression_time_quantiles(log: str, data: DataSettings, fractions: Sequence[float]) -> list[int]:
    """Times that cut the labelled impressions into the given fractions.

    Args:
      log: path, folder or glob.
      data: how to read it; `bad_rows` decides whether bad rows stop or are left out.
      fractions: strictly ascending, each in (0, 1).

    Returns:
      For each fraction f the unix second b among the impressions' times (or the second after the last) for which the
      share of impressions with t < b comes nearest to f. Strictly ascending; every part between borders has
      impressions in it.

    Raises:
      EventLogError: bad rows under `stop`, no impressions, or too few distinct times.
    """
    parts = []
    for path in log_files(log, data):
        for batch in read_batches(path, data):
            require_good(batch, data)
            label = batch.table.column(batch.table.schema.get_field_index(features.LABEL)).to_numpy()
            time = batch.table.column(batch.table.schema.get_field_index(features.TIMESTAMP)).to_numpy()
            parts.append(time[label >= 0])
    times = np.concatenate(parts)
    if not len(times):
        raise EventLogError(
            f"{log}: no labelled impressions, so it cannot be split by fractions of them. "
            "`amen check` shows the log's behaviors; set data.impression_behavior if impressions go by another name."
        )
    return borders(times, fractions, log)


def borders(times: np.ndarray, fractions: Sequence[float], log: str) -> list[int]:
    """`impression_time_quantiles` for the times of the impressions themselves: int64 `[n]`, n > 0, in any order."""
    values, counts = np.unique(times, return_counts=True)
    before = np.concatenate([[0], np.cumsum(counts)[:-1]]) / len(times)
    # The first time has nothing before it and so is no border.
    chosen = [1 + int(np.argmin(np.abs(before[1:] - f))) if len(values) > 1 else 0 for f in fractions]
    if len(values) <= len(chosen) or len(set(chosen)) < len(chosen):
        raise EventLogError(
            f"{log}: too few distinct times to split at the fractions {', '.join(f'{f:g}' for f in fractions)}: "
            f"{len(times):,} impressions have {len(values):,} distinct times. Give a log over a longer period, other "
            "fractions, or times as borders (split.stage1_end, split.train_end, split.eval_end)."
        )
    return [int(values[i]) for i in chosen]
