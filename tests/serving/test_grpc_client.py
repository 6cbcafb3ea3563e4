"""The client over gRPC: what the REST client says, over a real channel to a server of the tests'."""

import contextlib
import socket
import threading

import grpc
import numpy as np
import pytest

from serving import ranker
from serving.client import RankClient
from serving.grpc_client import GrpcRankClient
from serving.local_server import ServerOptions, running_server
from serving.rank_errors import (
    InvalidRequestError,
    ModelNotFoundError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
    SignatureNotFoundError,
)
from tests.serving.grpc_double import grpc_server


@pytest.fixture
def service(server):
    with grpc_server(server._manager) as (address, service):
        service.address = address
        yield service


@pytest.fixture
def document():
    moveline = [
        {"item_id": item, "category_id": "shoes", "scene": "search", "behavior": "click", "timestamp": time}
        for item, time in (("a", 20), ("a", 10), ("b", 30))
    ]
    candidates = [{"item_id": "a", "category_id": "hats", "price": 1.5}, {"item_id": "b", "category_id": "shoes"}]
    return {
        "timestamp": 1_700_000_000,
        "scene": "feed",
        "user": {"age": 2},
        "moveline": moveline,
        "candidates": candidates * 5,
    }


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(ranker, "_FIRST_WAIT", 0.001)


def test_both_clients_say_the_same(server, service, document):
    with RankClient(server.address) as rest, GrpcRankClient(service.address) as client:
        scores = client.rank(document)
        np.testing.assert_array_equal(scores, rest.rank(document))
        assert scores.dtype == np.float32 and len(set(scores)) == 2
        assert client.inputs == rest.inputs
        document |= {"moveline": [], "scene": "search"}
        np.testing.assert_array_equal(client.rank(document), rest.rank(document))


def test_many_candidates_go_to_one_version(service, document):
    with GrpcRankClient(service.address, most_candidates=4) as client:
        whole = client.rank(document)
    # The signatures, the version, and three parts.
    assert [spec.version.value for spec in service.calls] == [0, 0, 17, 17, 17]
    with GrpcRankClient(service.address) as client:
        np.testing.assert_array_equal(client.rank(document), whole)


def test_version_and_label(service, document):
    with GrpcRankClient(service.address, version=17) as client:
        assert len(client.rank(document)) == 10
    assert {spec.version.value for spec in service.calls} == {17}
    with pytest.raises(ModelNotFoundError, match="label nope.*INVALID_ARGUMENT: Unrecognized servable version label"):
        GrpcRankClient(service.address, label="nope").rank(document)
    with pytest.raises(ModelNotFoundError, match="version 3.*NOT_FOUND"):
        GrpcRankClient(service.address, version=3).rank(document)
    with pytest.raises(InvalidRequestError, match="a version or a label"):
        GrpcRankClient(service.address, version=1, label="stable")
    with pytest.raises(SignatureNotFoundError, match="no signature 'nope'; it has: .*rank"):
        GrpcRankClient(service.address, signature_name="nope").rank(document)


def test_busy_and_absent_servers_are_asked_again(service, document):
    with GrpcRankClient(service.address, retries=2) as client:
        client.inputs  # noqa: B018  read before the server is busy
        service.fail = [grpc.StatusCode.UNAVAILABLE] * 2
        assert len(client.rank(document)) == 10
        service.fail = [grpc.StatusCode.UNAVAILABLE] * 3
        with pytest.raises(ServerUnreachableError, match="speaks REST alone"):
            client.rank(document)


def test_a_server_that_batches_and_whose_queue_is_full(service, document, monkeypatch):
    with GrpcRankClient(service.address, retries=0) as client:
        client.inputs  # noqa: B018
        monkeypatch.setattr(
            service, "reason", "The batch scheduling queue to which this task was submitted is full; currently 100."
        )
        service.fail = [grpc.StatusCode.UNAVAILABLE]
        with pytest.raises(ServerError, match="queue .* is full") as caught:
            client.rank(document)
    assert caught.value.status == 503


def test_an_absent_server_is_connected_to_again(document, monkeypatch):
    monkeypatch.setattr(ranker, "_FIRST_WAIT", 0.2)
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as absent:
        absent.settimeout(0.05)
        stopped = threading.Event()

        def turn_away():
            while not stopped.is_set():
                with contextlib.suppress(TimeoutError):
                    connections.append(absent.accept()[0].close())

        thread = threading.Thread(target=turn_away)
        thread.start()
        with (
            GrpcRankClient(f"127.0.0.1:{absent.getsockname()[1]}", retries=4) as client,
            pytest.raises(ServerUnreachableError),
        ):
            client.rank(document)
        stopped.set()
        thread.join()
    assert len(connections) > 1


def test_inputs_are_read_anew_when_a_new_version_takes_others(push, tmp_path, document, wait_until):
    push("ranker", tmp_path, 1)
    with (
        running_server(tmp_path, options=ServerOptions(poll_seconds=0.05)) as server,
        grpc_server(server._manager) as (address, _),
        GrpcRankClient(address) as client,
    ):
        first = client.rank(document)
        assert "city" not in client.inputs
        # There and back: over gRPC an input too many is refused like one too few.
        for version, name in ((2, "ranker_city"), (3, "ranker")):
            push(name, tmp_path, version)
            wait_until(
                lambda version=version: (
                    [r.version for r in server.status("amen") if r.state == "AVAILABLE"] == [version]
                )
            )
            np.testing.assert_array_equal(client.rank(document), first)
            assert ("city" in client.inputs) == (name == "ranker_city")


def test_a_text_that_cannot_be_sent(service, document):
    with (
        GrpcRankClient(service.address) as client,
        pytest.raises(InvalidRequestError, match="candidate_item_id: not a text that can be sent"),
    ):
        client.rank({**document, "candidates": [{"item_id": "\ud800"}]})


@pytest.mark.parametrize(
    ("code", "status"), [("INVALID_ARGUMENT", 400), ("RESOURCE_EXHAUSTED", 429), ("INTERNAL", 500)]
)
def test_other_answers_are_final(service, document, code, status):
    with GrpcRankClient(service.address) as client:
        client.inputs  # noqa: B018
        service.fail = [grpc.StatusCode[code]]
        with pytest.raises(ServerError, match=f"Predict on {service.address} was answered with {code}") as caught:
            client.rank(document)
    assert caught.value.status == status


def test_a_server_that_is_too_slow(service, document):
    with GrpcRankClient(service.address) as client:
        client.inputs  # noqa: B018
        service.fail = [grpc.StatusCode.DEADLINE_EXCEEDED]
        with pytest.raises(ServerTimeoutError, match="no answer within 10 s"):
            client.rank(document)


def test_addresses():
    assert GrpcRankClient("tfs.example").address == "tfs.example:8500"
    for address in ("http://tfs.example:8500", ""):
        with pytest.raises(InvalidRequestError, match="expected host:port of a gRPC server"):
            GrpcRankClient(address)
