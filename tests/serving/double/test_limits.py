"""Limits of the server: size of a body, time for it to arrive, time for the graph, time to stop."""

import gzip
import json
import socket
import threading
import time

import pytest
import requests

from serving.local_server import ServerOptions, running_server

SLOW, FAST = {"inputs": [10**12]}, {"inputs": [3]}
OPTIONS = ServerOptions(max_body_bytes=5000, timeout_seconds=0.5)


@pytest.fixture(scope="module")
def url(push, tmp_path_factory):
    base = tmp_path_factory.mktemp("slow")
    push("slow", base, 1)
    with running_server(base, "slow", options=OPTIONS) as server:
        yield f"{server.address}/v1/models/slow:predict"


def error(reply):
    assert reply.headers["Content-Type"] == "application/json"
    return reply.status_code, reply.json()["error"]


def test_the_graph_has_a_time_limit_as_on_the_server(url):
    begin = time.monotonic()
    replies = []
    asking = [threading.Thread(target=lambda: replies.append(requests.post(url, json=SLOW))) for _ in range(3)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert [error(reply) for reply in replies] == [(504, "Timed out waiting for notification")] * 3
    assert 0.5 <= time.monotonic() - begin < 5
    assert requests.post(url, json=FAST).json() == {"outputs": [3]}, "nothing is left running"


def test_large_bodies(url):
    expected = 413, "The body is larger than the development double takes (5000 bytes)."
    assert error(requests.post(url, data=b" " * 5001)) == expected
    assert error(requests.post(url, data=iter([b" " * 3000] * 3))) == expected, "also in chunks of unknown number"
    padded = json.dumps(FAST).ljust(5000)
    assert requests.post(url, data=padded).json() == {"outputs": [3]}
    gzipped = {"Content-Encoding": "gzip"}
    assert requests.post(url, data=gzip.compress(padded.encode()), headers=gzipped).json() == {"outputs": [3]}
    bomb = gzip.compress(b" " * 5001)
    assert error(requests.post(url, data=bomb, headers=gzipped)) == (400, "JSON Parse error: The document is empty")


def test_a_body_that_does_not_arrive(url):
    host, port = url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /v1/models/slow:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        answer = b""
        while part := connection.recv(4096):  # to the end: the server hangs up
            answer += part
    assert answer.startswith(b"HTTP/1.1 408") and b"did not arrive within 0.5 s" in answer


class Asking:
    """A request that takes half a second or more, under way in a thread once this is made."""

    def __init__(self, address):
        self.count, took = 20_000, 0.0
        while took < 0.5:
            self.count *= 2
            took = requests.post(address, json={"inputs": [self.count]}).elapsed.total_seconds()
        self.replies = []
        self.thread = threading.Thread(target=lambda: self.replies.append(requests.post(address, json=self.body)))
        self.thread.start()
        time.sleep(0.1)

    @property
    def body(self):
        return {"inputs": [self.count]}

    def check(self):
        self.thread.join()
        assert self.replies[0].json() == {"outputs": [self.count]}


def test_stopping_lets_a_running_graph_end(push, tmp_path):
    push("slow", tmp_path, 1)
    with running_server(tmp_path, "slow") as server:
        address = f"{server.address}/v1/models/slow:predict"
        asking = Asking(address)
    asking.check()
    with pytest.raises(requests.ConnectionError):
        requests.post(address, json=FAST)


def test_a_version_goes_after_its_last_request(push, tmp_path, wait_until):
    push("slow", tmp_path, 1)
    with running_server(tmp_path, "slow", options=ServerOptions(poll_seconds=0.02)) as server:
        asking = Asking(f"{server.address}/v1/models/slow/versions/1:predict")
        (tmp_path / "1").rename(tmp_path / "gone")
        wait_until(lambda: server.status("slow")[0].state == "END")
        asking.check()
