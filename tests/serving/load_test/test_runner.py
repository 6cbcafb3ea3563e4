"""The open-loop load against a small server whose answers a test decides."""

import asyncio
import collections
import contextlib
import http.server
import threading
import time

import numpy as np
import pytest

from serving.load_test.runner import NOT_SENT, UNANSWERED, Load, run_load

GOOD = 200, b'{"outputs": [[0.5]]}'


class Scripted:
    """A server on a free port.

    Attributes:
        url: of it.
        seconds: that each answer takes.
        answer: (status, body), or a function of the request's body that returns it.
        bodies: received.
        most: requests under way at once.
    """

    def __init__(self):
        self.seconds, self.answer, self.bodies, self.most = 0.0, GOOD, [], 0
        script, under_way, lock = self, collections.Counter(), threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    under_way["now"] += 1
                    script.most = max(script.most, under_way["now"])
                    script.bodies.append(body)
                time.sleep(script.seconds)
                with lock:
                    under_way["now"] -= 1
                status, answer = script.answer(body) if callable(script.answer) else script.answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments):
                pass

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except ConnectionError:  # a client that gave up
                    self.close_connection = True

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def scripted():
    script = Scripted()
    yield script
    script.server.shutdown()
    script.server.server_close()


def test_every_request_is_sent_at_its_time(scripted):
    outcome = run_load(scripted.url, [b"1", b"2"], Load(rate=100, seconds=0.5))
    assert collections.Counter(scripted.bodies) == {b"1": 25, b"2": 25}
    assert outcome.errors == [""] * 50
    np.testing.assert_allclose(outcome.scheduled, np.arange(50) / 100)
    assert np.all(outcome.scheduled + outcome.latency <= outcome.elapsed), "no answer after the end"
    assert np.all(outcome.latency > 0) and outcome.elapsed >= 0.49


def test_waiting_for_a_slow_server_counts_as_latency(scripted):
    scripted.seconds = 0.05
    outcome = run_load(scripted.url, [b"1"], Load(rate=100, seconds=0.3, concurrency=1))
    # Request n is due at 0.01 n and answered at 0.05 (n + 1) at the earliest.
    due = np.arange(30)
    assert np.all(outcome.latency >= 0.05 * (due + 1) - 0.01 * due - 0.001)
    assert scripted.most == 1
    scripted.most = 0
    quick = run_load(scripted.url, [b"1"], Load(rate=100, seconds=0.3, concurrency=16))
    assert 1 < scripted.most <= 16
    assert np.median(quick.latency) < np.median(outcome.latency) / 2, "the same server, many requests at a time"


@pytest.mark.parametrize(
    ("answer", "error"), [((503, b"{}"), "HTTP 503"), ((200, b'{"error": 1}'), "an answer without outputs")]
)
def test_answers_that_are_none(scripted, answer, error):
    scripted.answer = lambda body: answer if body == b"2" else GOOD
    outcome = run_load(scripted.url, [b"1", b"2"], Load(rate=100, seconds=0.1))
    assert outcome.errors == ["", error] * 5
    assert np.isnan(outcome.latency[1::2]).all() and not np.isnan(outcome.latency[::2]).any()


def test_a_server_that_does_not_answer_in_time(scripted):
    scripted.seconds = 1.0
    outcome = run_load(scripted.url, [b"1"], Load(rate=20, seconds=0.2, timeout=0.3))
    assert outcome.errors == ["ReadTimeout"] * 4


def test_the_end_does_not_wait_for_a_queue(scripted):
    scripted.seconds = 0.25
    outcome = run_load(scripted.url, [b"1"], Load(rate=100, seconds=0.5, concurrency=1, timeout=0.5))
    assert outcome.elapsed < 5, "all of them would take 12.5 s"
    assert outcome.errors[0] == "" and outcome.errors[-1] == NOT_SENT
    # Four are answered in the second, and the fifth is on its way.
    assert outcome.errors.count(UNANSWERED) == 1 == len(scripted.bodies) - outcome.errors.count("")


@pytest.fixture
def quick():
    """URL of a server that takes next to no time."""

    async def answer(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n") and await reader.readexactly(1):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"outputs":')
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_connections_that_wait_cost_the_load_test_nothing(quick):
    few, many = (run_load(quick, [b"1"], Load(rate=300, seconds=1.5, concurrency=count)) for count in (4, 64))
    assert few.errors == many.errors == [""] * 450
    assert 0 < many.busy < 1.7 * few.busy


def test_nobody_listens(scripted):
    scripted.server.shutdown()
    scripted.server.server_close()
    outcome = run_load(scripted.url, [b"1"], Load(rate=20, seconds=0.2))
    assert outcome.errors == ["ConnectError"] * 4


def test_there_is_always_a_request():
    assert Load(rate=0.1, seconds=0.1).count == 1
