"""What the tests of the adapters share: reading what they wrote, and the real data where it lies on this machine."""

import os
import pathlib

import pyarrow as pa
import pytest

from amen_tf.config import Settings
from pipeline.event_log.files import list_files
from pipeline.event_log.reader import read_batches


@pytest.fixture
def read_back():
    """`read_back(folder)`: its settings, and its event log as those settings read it. No row may be bad."""

    def _read(folder):
        settings = Settings.load(pathlib.Path(folder) / "settings.yaml")
        batches = [b for path in list_files(settings.data.log) for b in read_batches(path, settings.data)]
        assert not sum(b.bad.num_rows for b in batches)
        return settings, pa.Table.from_batches([b.table for b in batches])

    return _read


@pytest.fixture
def real_data():
    """`real_data("movielens_100k")`: a folder of real data, or a skip that says why."""

    def _real(name):
        root = os.environ.get("AMEN_REAL_DATA")
        if not root:
            pytest.skip("real data: set AMEN_REAL_DATA to a folder with trivago_recsys19/ and movielens_100k/")
        folder = pathlib.Path(root) / name
        if not folder.is_dir():
            pytest.skip(f"real data: AMEN_REAL_DATA is {root}, which has no {name}/")
        return folder

    return _real
