"""What a training reports while it runs; without TensorFlow, for those who only show it."""

from typing import NamedTuple


class Progress(NamedTuple):
    """Where a training stands: `done` of `total` steps, and the newest figures by name."""

    done: int
    total: int
    figures: dict[str, float]
