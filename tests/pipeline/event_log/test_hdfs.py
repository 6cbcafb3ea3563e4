"""Beam's own HDFS file system against a name node of the tests' own: WebHDFS over a local folder."""

import http.server
import json
import threading
import urllib.parse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amen_tf.config import DataSettings
from pipeline.event_log import storage
from pipeline.event_log.check import check_log
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.files import list_files

pytest.importorskip("hdfs", reason="apache-beam[hadoop] is not installed")
T = 1_700_000_000


class _NameNode(http.server.BaseHTTPRequestHandler):
    """GETFILESTATUS, LISTSTATUS and OPEN, as the WebHDFS documentation has them; the server's `root` is the folder."""

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        place = self.server.root / urllib.parse.unquote(parts.path).removeprefix("/webhdfs/v1").strip("/")
        if not place.exists():
            problem = {"exception": "FileNotFoundException", "message": f"File does not exist: {place.name}"}
            return self._answer(404, json.dumps({"RemoteException": problem}).encode())
        if query["op"] == "GETFILESTATUS":
            return self._answer(200, json.dumps({"FileStatus": self._status(place, "")}).encode())
        if query["op"] == "LISTSTATUS":
            # A file is listed as itself, without a name.
            found = [self._status(p, p.name) for p in place.iterdir()] if place.is_dir() else [self._status(place, "")]
            return self._answer(200, json.dumps({"FileStatuses": {"FileStatus": found}}).encode())
        start = int(query.get("offset", 0))
        content = place.read_bytes()[start:]
        return self._answer(200, content[: int(query["length"])] if "length" in query else content)

    def _status(self, place, name):
        kind, size = ("DIRECTORY", 0) if place.is_dir() else ("FILE", place.stat().st_size)
        return {"pathSuffix": name, "type": kind, "length": size, "modificationTime": int(place.stat().st_mtime * 1000)}

    def _answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def cluster(tmp_path):
    """(local folder, its HDFS address)."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _NameNode)
    server.root = tmp_path
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    (tmp_path / "logs").mkdir()
    try:
        options = ["--hdfs_host=127.0.0.1", f"--hdfs_port={port}", "--hdfs_user=amen"]
        storage.configure(options, "hdfs://logs")
        yield tmp_path / "logs", "hdfs://logs"
    finally:
        server.shutdown()
        server.server_close()
        storage.configure([], "hdfs://logs")


def test_files_are_found_as_locally(cluster):
    folder, place = cluster
    for name in ("a.csv", "empty.csv", "deep/er/b.csv", "day=1.csv/c.csv", "_tmp/d.csv", "deep/.hidden.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("" if name == "empty.csv" else name)
    (folder / "nothing").mkdir()
    for tail in ("", "/*", "/**", "/*/*.csv", "/**/*.csv", "/deep/**"):
        if tail:
            here, there = storage.matching(f"{folder}{tail}"), storage.matching(f"{place}{tail}")
        else:
            here, there = list_files(str(folder)), list_files(place)
        assert [path.replace(place, str(folder)) for path in there] == here and here
    assert list_files(f"{place}/a.csv") == [f"{place}/a.csv"]
    assert list_files(f"{place}/empty.csv") == [f"{place}/empty.csv"]
    with pytest.raises(EventLogError, match="No event log in folder hdfs://logs/nothing"):
        list_files(f"{place}/nothing")
    with pytest.raises(EventLogError, match="No such event log: hdfs://logs/absent"):
        list_files(f"{place}/absent")


def test_a_log_is_read(cluster):
    folder, place = cluster
    rows = [f"u{n},{T + n},feed,impression,i{n},{n % 2}" for n in range(9)]
    (folder / "csv").mkdir()
    (folder / "csv" / "a.csv").write_text("\n".join(["user_id,timestamp,scene,behavior,item_id,label", *rows]) + "\n")
    names = ("user_id", "timestamp", "scene", "behavior", "item_id", "label")
    columns = dict(zip(names, zip(*(row.split(",") for row in rows), strict=True), strict=True))
    (folder / "parquet").mkdir()
    pq.write_table(pa.table({n: list(v) for n, v in columns.items()}), folder / "parquet" / "a.parquet")
    for kind in ("csv", "parquet"):
        log = f"{place}/{kind}"
        report = check_log(log, DataSettings(log=log))
        assert (report.rows, report.bad_rows, report.impressions, report.clicked) == (9, 0, 9, 4)
    before = storage.fingerprint(list_files(place, "csv"))
    (folder / "csv" / "a.csv").write_text("longer or shorter")
    assert storage.fingerprint(list_files(place, "csv")) != before
