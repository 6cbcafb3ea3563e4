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


def test_stopping_lets_a_running_graph_end(push, tmp_path):
    push("slow", tmp_path, 1)
    replies = []
    with running_server(tmp_path, "slow") as server:
        address = f"{server.address}/v1/models/slow:predict"
        count = 20_000
        while not replies or replies[-1].elapsed.total_seconds() < 0.4:  # as many rounds as take that long here
            count *= 2
            replies.append(requests.post(address, json={"inputs": [count]}))
        asking = threading.Thread(target=lambda: replies.append(requests.post(address, json={"inputs": [count]})))
        asking.start()
        time.sleep(0.1)
    asking.join()
    assert replies[-1].json() == {"outputs": [count]}
    with pytest.raises(requests.ConnectionError):
        requests.post(address, json=FAST)
