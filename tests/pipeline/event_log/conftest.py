"""A small log written by hand, and its settings."""

import pytest

from amen_tf.config import DataSettings

HEADER = "user_id,timestamp,scene,behavior,item_id,category_id,label,request_id"


@pytest.fixture
def write(tmp_path):
    """Writes lines as a file of the log: `write("a.csv", *rows)`, a header first unless `header` is given."""

    def _write(name, *rows, header=HEADER, end="\n"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([header, *rows]) + end, encoding="utf-8")
        return str(path)

    return _write


@pytest.fixture
def settings():
    """`settings(key=value)`: data settings of a log; where it lies plays no part in reading."""

    def _settings(**keys):
        return DataSettings(log="unused", **keys)

    return _settings
