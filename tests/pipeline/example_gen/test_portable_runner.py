"""The stage through Beam's portable runner: a job service in a process of its own, workers called back in this one."""

import subprocess
import sys
import time

import pytest

from pipeline.example_gen import shuffle
from tests.pipeline.example_gen.logs import FEATURES
from tests.pipeline.example_gen.test_executor import content, do, make_log, rules_of_files, write_csv


@pytest.fixture
def job_service(tmp_path):
    """The address of a job service that ends with the test."""
    port, log = tmp_path / "port", tmp_path / "service.log"
    command = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main", "--port_file", str(port)]
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as service:
        try:
            until = time.monotonic() + 120
            while not port.exists():
                assert service.poll() is None and time.monotonic() < until, log.read_text()
                time.sleep(0.1)
            yield f"localhost:{port.read_text()}"
        finally:
            service.terminate()


def test_the_portable_runner_makes_the_same_files_as_the_direct_runner(tmp_path, job_service, monkeypatch):
    rules = rules_of_files(features=FEATURES)
    events = make_log(rules)
    (tmp_path / "log").mkdir()
    for number, start in enumerate(range(0, len(events), 100)):
        write_csv(tmp_path / "log" / f"part-{number}.csv", events[start : start + 100])
    do(tmp_path / "log", rules, tmp_path / "direct")
    # Rows go through the runner here, not through files.
    monkeypatch.setattr(shuffle, "Spill", None)
    portable = ["--runner=PortableRunner", f"--job_endpoint={job_service}", "--environment_type=LOOPBACK"]
    do(tmp_path / "log", rules, tmp_path / "portable", portable)
    assert content(tmp_path / "portable") == content(tmp_path / "direct")
