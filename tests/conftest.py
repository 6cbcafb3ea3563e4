"""Common to all tests: Keras 2 is chosen and TensorFlow's start-up chatter is off before any test module imports it."""

import os
import signal

# Shells ignore interrupts for what they start in the background, and so would every process started here; tests send
# some.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Read by TensorFlow's C++ part when it is loaded: without it every machine without a GPU gets a page of complaints.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import amen_tf  # noqa: F401  before tensorflow: importing it selects Keras 2

# Folders whose tests take minutes; what breaks in seconds should be seen first.
LAST = ("tests/pipeline", "tests/end_to_end")


def pytest_collection_modifyitems(items):
    """Fast tests first, pipeline runs last; inside that the order of the files."""
    items.sort(
        key=lambda item: max((i + 1 for i, folder in enumerate(LAST) if folder in item.path.as_posix()), default=0)
    )
