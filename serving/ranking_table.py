"""A ranking as a table for people."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from serving.rank_request import UserRequest


def format_ranking(
    request: UserRequest, probabilities: np.ndarray | Sequence[float], *, top: int | None = None
) -> Table:
    """The candidates, most probable first.

    Args:
        request: the request that was ranked.
        probabilities: [N] click probabilities in candidate order; NaN sorts last.
        top: number of rows; all by default.

    Returns:
        A rich table to print: rank, item, category, probability, and the candidate's index in the request.

    Raises:
        ValueError: not one probability per candidate.
    """
    values = np.asarray(probabilities, np.float64)
    if values.shape != (len(request.candidates),):
        raise ValueError(
            f"expected {len(request.candidates)} probabilities, one per candidate, got shape {list(values.shape)}"
        )
    title = f"Ranking for {request.user_id or 'one user'} in scene {request.scene}"
    # Ids come from outside: as Text they cannot be taken for markup.
    table = Table(title=Text(title))
    table.add_column("rank", justify="right")
    table.add_column("item")
    table.add_column("category")
    table.add_column("probability", justify="right")
    table.add_column("candidate", justify="right")
    order = np.argsort(-values, kind="stable")[:top]
    for rank, index in enumerate(order.tolist(), start=1):
        candidate = request.candidates[index]
        table.add_row(
            str(rank), Text(candidate.item_id), Text(candidate.category_id), f"{values[index]:.6f}", str(index)
        )
    return table
