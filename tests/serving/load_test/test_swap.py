"""A version comes and goes under load, twice: no request fails."""

import threading

import numpy as np

from serving.load_test.runner import Load, run_load
from serving.local_server import ServerOptions, running_server

BODY = b'{"inputs": [1]}'


def test_a_swap_and_a_rollback_under_load(push, tmp_path, wait_until):
    push("scaled_2", tmp_path / "base", 1)
    events = []
    options = ServerOptions(poll_seconds=0.1)
    with running_server(tmp_path / "base", "m", options=options, on_event=events.append) as server:

        def states():
            return [(record.version, record.state) for record in server.status("m")]

        def swap_and_roll_back():
            for _ in range(2):
                push("scaled_3", tmp_path / "base", 2)
                wait_until(lambda: states() == [(2, "AVAILABLE"), (1, "END")])
                (tmp_path / "base" / "2").rename(tmp_path / f"rolled_back_{len(events)}")
                wait_until(lambda: states() == [(2, "END"), (1, "AVAILABLE")])
            done.set()

        done = threading.Event()
        changing = threading.Thread(target=swap_and_roll_back)
        changing.start()
        outcome = run_load(f"{server.address}/v1/models/m:predict", [BODY], Load(rate=150, seconds=4, concurrency=16))
        changing.join()
    assert done.is_set()
    assert set(outcome.errors) == {""} and not np.isnan(outcome.latency).any()
    assert [event.split(" ")[1] for event in events if event.endswith("loaded")] == ["2", "1"] * 2
