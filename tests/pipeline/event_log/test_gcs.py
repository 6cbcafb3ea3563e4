"""Beam's own Google Cloud Storage file system against a store of the tests' own: its JSON interface over a folder."""

import http.server
import json
import threading
import urllib.parse
from datetime import datetime, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amen_tf.config import DataSettings
from pipeline.event_log import storage
from pipeline.event_log.check import check_log
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.files import list_files

pytest.importorskip("google.cloud.storage", reason="apache-beam[gcp] is not installed")
T = 1_700_000_000


class _Store(http.server.BaseHTTPRequestHandler):
    """Lists, describes and gives out objects; the server's `root` is the bucket."""

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        name = urllib.parse.unquote(parts.path.partition("/o/")[2])
        place = self.server.root / name
        if parts.path.endswith("/o"):
            files = [p for p in self.server.root.rglob("*") if p.is_file()]
            found = [self._described(p) for p in files if self._name(p).startswith(query.get("prefix", ""))]
            return self._answer(200, json.dumps({"kind": "storage#objects", "items": found}).encode())
        if not name or not place.is_file():
            return self._answer(404, json.dumps({"error": {"code": 404, "message": "No such object"}}).encode())
        if not parts.path.startswith("/download/"):
            return self._answer(200, json.dumps(self._described(place)).encode())
        content = place.read_bytes()
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        found = content[int(first) : int(last) + 1 if last else None]
        reach = f"bytes {first}-{int(first) + len(found) - 1}/{len(content)}"
        return self._answer(206 if found else 416, found, {"Content-Range": reach})

    def _name(self, place):
        return str(place.relative_to(self.server.root))

    def _described(self, place):
        updated = datetime.fromtimestamp(place.stat().st_mtime, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        size = str(place.stat().st_size)
        return {"bucket": "bucket", "name": self._name(place), "size": size, "updated": updated, "generation": "1"}

    def _answer(self, status, content, headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """(local folder, its address)."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Store)
    server.root = tmp_path
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_address[1]}")
    # Else Beam looks for credentials in the network, for half a minute.
    monkeypatch.setattr("apache_beam.internal.gcp.auth.get_service_credentials", lambda options: None)
    storage.configure([], "gs://bucket")
    try:
        yield tmp_path, "gs://bucket"
    finally:
        server.shutdown()
        server.server_close()


def test_files_are_found_as_locally(bucket):
    folder, place = bucket
    for name in ("log/a.csv", "log/empty.csv", "log/deep/er/b.csv", "log/_tmp/d.csv", "log/deep/.x.csv", "log2/e.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("" if "empty" in name else name)
    for tail in ("/log/*", "/log/**", "/log*/*.csv", "/**/*.csv", "/log/deep/**"):
        here, there = storage.matching(f"{folder}{tail}"), storage.matching(f"{place}{tail}")
        assert [path.replace(place, str(folder)) for path in there] == here and here
    for tail in ("", "/", "/log", "/log/deep/er/b.csv", "/log/empty.csv"):
        there = list_files(f"{place}{tail}")
        assert [path.replace(place, str(folder)) for path in there] == list_files(f"{folder}{tail}".rstrip("/"))
    with pytest.raises(EventLogError, match="No such event log: gs://bucket/lo"):
        list_files(f"{place}/lo")


def test_a_log_is_read(bucket):
    folder, place = bucket
    rows = [f"u{n},{T + n},feed,impression,i{n},{n % 2}" for n in range(9)]
    names = ("user_id", "timestamp", "scene", "behavior", "item_id", "label")
    columns = dict(zip(names, zip(*(row.split(",") for row in rows), strict=True), strict=True))
    for kind in ("csv", "parquet"):
        (folder / kind).mkdir()
    (folder / "csv" / "a.csv").write_text("\n".join([",".join(names), *rows]) + "\n")
    pq.write_table(pa.table({n: list(v) for n, v in columns.items()}), folder / "parquet" / "a.parquet")
    for kind in ("csv", "parquet"):
        log = f"{place}/{kind}"
        report = check_log(log, DataSettings(log=log))
        assert (report.rows, report.bad_rows, report.impressions, report.clicked) == (9, 0, 9, 4)
    before = storage.fingerprint(list_files(f"{place}/csv"))
    (folder / "csv" / "a.csv").write_text("longer or shorter")
    assert storage.fingerprint(list_files(f"{place}/csv")) != before
