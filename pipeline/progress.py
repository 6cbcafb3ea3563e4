"""Where a running stage reports how far it is: the runner listens, and without one reports go nowhere."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

from amen_tf.progress import Progress

_listener: contextvars.ContextVar[Callable[[Progress], None] | None] = contextvars.ContextVar("listener", default=None)


def report(progress: Progress) -> None:
    """Hands `progress` to the listener of this context, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(progress)


@contextlib.contextmanager
def listening(listener: Callable[[Progress], None]) -> Iterator[None]:
    """Everything reported inside goes to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
