"""An interrupt (^C) that is heard.

Python raises KeyboardInterrupt wherever the main thread happens to be. Inside a foreign `try ... except: pass`, of
which Beam and the pickling under it have several, it is lost without a trace, and the run would go on to its end.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

# Long enough for whoever has caught the first to put things in order.
PATIENCE = 5.0


@contextlib.contextmanager
def insistent(patience: float | None = None) -> Iterator[Callable[[], None]]:
    """Repeats an interrupt of the main thread until somebody says that it has arrived.

    Does nothing in another thread, or where SIGINT has a handler of somebody else.

    Args:
      patience: seconds between one and the next; `PATIENCE` if not given.

    Yields:
      to be called where the KeyboardInterrupt has arrived.
    """
    patience, asked, heard = PATIENCE if patience is None else patience, [], threading.Event()
    usual = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield heard.set
        return

    def interrupt(number, frame):
        # No lock here: the handler may run in the middle of whatever else the main thread does with it.
        asked.append(time.monotonic())
        usual(number, frame)

    def repeat():
        while not heard.wait(patience / 4):
            if asked and time.monotonic() - asked[-1] >= patience:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    signal.signal(signal.SIGINT, interrupt)
    threading.Thread(target=repeat, name="insistent", daemon=True).start()
    try:
        yield heard.set
    finally:
        heard.set()
        signal.signal(signal.SIGINT, usual)
