"""One real `amen run`, which all tests of this folder look at or go on from."""

import pytest

from tests.end_to_end.runs import Run, run


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """Where the run of `finished` and those that follow it lie."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def finished(root) -> Run:
    """The first run, uninterrupted."""
    made = run(root)
    assert made.status == 0, made.out + made.err
    return made
