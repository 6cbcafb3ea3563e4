"""The ranking client: requests read and checked, columns built, typed errors, the table."""

import http.server
import io
import json
import socket
import threading

import numpy as np
import pytest
from rich.console import Console

from amen_tf import features
from serving import ranker
from serving.client import (
    EmptyCandidatesError,
    InputSpec,
    InvalidRequestError,
    ModelNotFoundError,
    MovelineLengthError,
    RankClient,
    RankError,
    ReplyError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
    SignatureNotFoundError,
    UnknownColumnError,
    format_ranking,
    load_request,
    parse_request,
)
from serving.columns import build_columns
from serving.local_server import ServerOptions, running_server
from serving.rank_request import VALUE_SEPARATOR


def event(item="a", timestamp=10, **more):
    fields = {"item_id": item, "category_id": "shoes", "scene": "search", "behavior": "click", "timestamp": timestamp}
    return fields | more


@pytest.fixture
def document():
    return {
        "user_id": "u1",
        "timestamp": 1_700_000_000,
        "scene": "feed",
        "user": {"age": 2},
        "moveline": [event("a", 20), event("a", 10), event("b", 30)],
        "candidates": [
            {"item_id": "a", "category_id": "hats", "price": 1.5},
            {"item_id": "b", "category_id": "shoes"},
            {"item_id": "c", "category_id": "?", "price": None, "brand": "x"},
        ],
    }


# category weight + 0.125 * touches + 0.25 * age 2 + 0.5 for the feed + price
EXPECTED = [0.25 + 0.25 + 1.0 + 1.5, 0.5 + 0.125 + 1.0, 0.0 + 0.0 + 1.0]


@pytest.fixture
def client(server):
    with RankClient(server.address) as client:
        yield client


def sent_by(client):
    """(URL, body) of every request that a client posts from now on."""
    real, sent = client._session.request, []

    def request(method, url, data=None, **rest):
        if method == "POST":
            sent.append((url, json.loads(data)))
        return real(method, url, data=data, **rest)

    client._session.request = request
    return sent


@pytest.fixture
def scripted():
    """scripted({end of path: (status, body)}) -> address of a server that answers so, and 404 elsewhere.

    The paths asked for are added to the second argument, a list.
    """
    servers = []

    def start(replies, asked=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if asked is not None:
                    asked.append(self.path)
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                found = [reply for end, reply in replies.items() if self.path.endswith(end)]
                status, body = found[0] if found else (404, b"nothing here")
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *arguments):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class TestRank:
    def test_probabilities_come_in_candidate_order(self, client, document):
        result = client.rank(document)
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, np.float32(EXPECTED))
        np.testing.assert_array_equal(client.rank(parse_request(document)), result)

    def test_columns_in_place_of_objects(self, client, document):
        for key in ("moveline", "candidates"):
            names = {name: None for row in document[key] for name in row}
            document[key] = {name: [row.get(name) for row in document[key]] for name in names}
        document["candidates"]["brand"] = ["", "", "x"]
        np.testing.assert_array_equal(client.rank(document), np.float32(EXPECTED))

    def test_events_are_sent_oldest_first(self, server, document):
        with RankClient(server.address, signature_name="times") as client:
            columns = build_columns(parse_request(document), client.inputs)
        assert columns["moveline_timestamp"] == [[10, 20, 30]]
        assert columns["moveline_item_id"] == [["a", "a", "b"]]

    def test_no_history_and_no_features(self, client, document):
        document |= {"moveline": [], "user": {}, "scene": "search"}
        np.testing.assert_array_equal(client.rank(document), np.float32([1.75, 0.5, 0.0]))

    def test_address_forms(self, server, document):
        bare = server.address.removeprefix("http://")
        for address in (bare, f"{server.address}/", server.address):
            with RankClient(address) as client:
                assert len(client.rank(document)) == 3
        assert RankClient("tfs.example").address == "http://tfs.example:8501"
        assert RankClient("https://tfs.example/models").address == "https://tfs.example/models"
        for address in ("ftp://x", "http://", "host:port"):
            with pytest.raises(InvalidRequestError, match="expected host:port"):
                RankClient(address)

    def test_version_and_label(self, server, document):
        with RankClient(server.address, version=17) as client:
            assert len(client.rank(document)) == 3
        with pytest.raises(InvalidRequestError, match="a version or a label"):
            RankClient(server.address, version=1, label="stable")

    def test_inputs_are_read_anew_when_a_new_version_takes_others(self, push, tmp_path, document, wait_until):
        push("ranker", tmp_path, 1)
        with (
            running_server(tmp_path, options=ServerOptions(poll_seconds=0.05)) as server,
            RankClient(server.address) as client,
        ):
            client.rank(document)
            assert "city" not in client.inputs
            push("ranker_city", tmp_path, 2)
            wait_until(lambda: server.status("amen")[-1].state == "END")
            np.testing.assert_array_equal(client.rank(document), np.float32(EXPECTED))
            assert client.inputs["city"] == InputSpec("city", "DT_STRING", 1)


class TestManyCandidates:
    def test_parts_are_one_answer(self, server, document):
        document["candidates"] = document["candidates"] * 7
        with RankClient(server.address, most_candidates=4) as client:
            bodies = sent_by(client)
            np.testing.assert_array_equal(client.rank(document), np.float32(EXPECTED * 7))
        assert [len(body["inputs"]["candidate_item_id"][0]) for _, body in bodies] == [4, 4, 4, 4, 4, 1]
        # All of one version, whichever is the newest meanwhile.
        assert {url for url, _ in bodies} == {f"{server.address}/v1/models/amen/versions/17:predict"}

    def test_a_version_that_goes_in_between_is_not_asked_further(self, push, tmp_path, document, wait_until):
        push("ranker", tmp_path, 1)
        document["candidates"] = document["candidates"] * 3
        with (
            running_server(tmp_path, options=ServerOptions(poll_seconds=0.05)) as server,
            RankClient(server.address, most_candidates=4) as client,
        ):
            real, asked = client._scores, []

            def swapped_after_one(columns, count, version):
                scores = real(columns, count, version)
                asked.append(version)
                if len(asked) == 1:
                    push("ranker", tmp_path, 2)
                    wait_until(lambda: server.status("amen")[-1].state == "END")
                return scores

            client._scores = swapped_after_one
            np.testing.assert_array_equal(client.rank(document), np.float32(EXPECTED * 3))
            assert asked == [1, 2, 2, 2]

    def test_one_call_asks_for_no_version(self, server, document):
        with RankClient(server.address, most_candidates=3) as client:
            bodies = sent_by(client)
            client.rank(document)
        assert [url for url, _ in bodies] == [f"{server.address}/v1/models/amen:predict"]

    def test_a_fault_is_named_by_its_place_in_the_request(self, server, document):
        document["candidates"] = [*document["candidates"], {"item_id": "d", "price": "much"}]
        with (
            RankClient(server.address, most_candidates=2) as client,
            pytest.raises(InvalidRequestError, match=r"candidates\[3\]\.price"),
        ):
            client.rank(document)


class TestLongMovelines:
    @pytest.mark.parametrize(("kept", "times"), [(None, [10, 20, 30]), (2, [20, 30]), (9, [10, 20, 30]), (0, [0])])
    def test_the_newest_events_are_sent(self, server, document, kept, times):
        with RankClient(server.address, signature_name="times", newest_events=kept) as client:
            columns = build_columns(parse_request(document), client.inputs, newest_events=kept)
        # None at all is one event of padding.
        assert columns["moveline_timestamp"] == [times]


@pytest.mark.parametrize(("dtype", "most"), [("DT_INT32", 2**31 - 1), ("DT_INT64", 2**63 - 1)])
def test_numbers_that_an_input_cannot_hold(dtype, most, document):
    specs = {name: InputSpec(name, kind, 1) for name, kind in (("age", dtype), ("candidate_item_id", "DT_STRING"))}
    document["moveline"], document["candidates"] = [], [{"item_id": "a"}]
    for age in (most, -most - 1):
        assert build_columns(parse_request({**document, "user": {"age": age}}), specs)["age"] == [age]
    for age in (most + 1, -most - 2):
        with pytest.raises(InvalidRequestError, match=f"user.age: expected a number of (32|64) bits, got {age}"):
            build_columns(parse_request({**document, "user": {"age": age}}), specs)


class TestBusyServers:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch):
        monkeypatch.setattr(ranker, "_FIRST_WAIT", 0.001)

    @pytest.mark.parametrize("status", [503, 504])
    def test_asked_again_until_it_answers(self, server, document, status):
        with RankClient(server.address, retries=2) as client:
            client.inputs  # noqa: B018  read before the server is busy
            real, asked = client._call, []

            def busy_twice(*arguments):
                asked.append(arguments)
                return (status, "{}") if len(asked) < 3 else real(*arguments)

            client._call = busy_twice
            assert len(client.rank(document)) == 3 and len(asked) == 3

    @pytest.mark.parametrize(("status", "times"), [(503, 3), (504, 3), (400, 1), (429, 1), (500, 1)])
    def test_other_answers_are_final(self, scripted, document, status, times):
        asked = []
        address = scripted({"/metadata": (status, b'{"error": "no"}')}, asked)
        with RankClient(address, retries=2) as client, pytest.raises(RankError):
            client.rank(document)
        assert [path for path in asked if path.endswith("/metadata")] == ["/v1/models/amen/metadata"] * times

    def test_a_server_that_comes_up(self, server, document):
        with RankClient(server.address) as client:
            real, asked = client._call, []

            def absent_once(*arguments):
                asked.append(arguments)
                if len(asked) == 1:
                    raise ServerUnreachableError("not yet")
                return real(*arguments)

            client._call = absent_once
            assert len(client.rank(document)) == 3

    def test_retries_end(self, document):
        with RankClient("127.0.0.1:9", retries=1) as client, pytest.raises(ServerUnreachableError):
            client.rank(document)


class TestErrors:
    def test_server_not_reachable(self, document):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(ServerUnreachableError, match=rf"{address}.*refused.*amen serve"):
                RankClient(address).rank(document)

    def test_server_does_not_answer(self, document):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            with pytest.raises(ServerTimeoutError, match=r"no answer within 0\.2 s"):
                RankClient(f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.2).rank(document)

    def test_server_that_stops_in_the_middle(self, document):
        with socket.create_server(("127.0.0.1", 0)) as half:

            def begin():
                for _ in range(3):
                    connection, _ = half.accept()
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
                    asked.append(connection)

            asked = []
            threading.Thread(target=begin, daemon=True).start()
            with pytest.raises(ServerTimeoutError, match=r"no answer within 0\.2 s"):
                RankClient(f"127.0.0.1:{half.getsockname()[1]}", timeout=0.2).rank(document)
            assert len(asked) == 1, "who has waited that long is not made to wait again"
            asked.pop().close()

    def test_an_error_that_is_no_text(self, scripted, document):
        with pytest.raises(ReplyError, match="HTTP 404"):
            RankClient(scripted({"/metadata": (404, b'{"error": 404}')})).rank(document)

    def test_unknown_model_version_or_label(self, server, document):
        with pytest.raises(ModelNotFoundError, match="model 'nope'.*Latest.nope..*knows no version"):
            RankClient(server.address, "nope").rank(document)
        with pytest.raises(ModelNotFoundError, match="model 'amen', version 4.*knows: 17 AVAILABLE"):
            RankClient(server.address, version=4).rank(document)
        with pytest.raises(ModelNotFoundError, match="label stable.*Unrecognized servable version label"):
            RankClient(server.address, label="stable").rank(document)

    def test_signature_missing_or_of_another_kind(self, server, document):
        with pytest.raises(SignatureNotFoundError, match="no signature 'rank'; it has: pair, serving_default"):
            RankClient(server.address, "scaled").rank(document)
        with pytest.raises(SignatureNotFoundError, match="misses 'candidate_item_id'; its inputs are x"):
            RankClient(server.address, "scaled", signature_name="serving_default").rank(document)

    def test_empty_candidates_are_never_sent(self, document):
        document["candidates"] = []
        with pytest.raises(EmptyCandidatesError, match="at least one"):
            RankClient("127.0.0.1:1").rank(document)  # no server is there to be asked

    def test_moveline_columns_of_unequal_length(self, client, document):
        document["moveline"] = {"item_id": ["a", "b"], "timestamp": [1, 2, 3]}
        with pytest.raises(MovelineLengthError, match="item_id: 2, timestamp: 3"):
            client.rank(document)

    @pytest.mark.parametrize(
        ("group", "change", "message"),
        [
            ("user", {"agee": 3}, r"user\.agee: .*Did you mean 'age'\? It takes: age\."),
            ("context", {"hour": 3}, r"context\.hour: the model has no feature 'hour' there\. It takes: age"),
            ("moveline", [event(prize=1)], r"moveline\[0\]\.prize"),
            ("candidates", [{"item_id": "a"}, {"item_id": "b", "prise": 1}], r"candidates\[1\]\.prise.*'price'"),
        ],
    )
    def test_unknown_column(self, client, document, group, change, message):
        document[group] = change
        with pytest.raises(UnknownColumnError, match=message):
            client.rank(document)

    @pytest.mark.parametrize(
        ("group", "change", "message"),
        [
            ("user", {"age": "old"}, r'user\.age: expected a number, got "old"'),
            ("candidates", [{"item_id": "a", "brand": 0.5}], r"candidates\[0\]\.brand: expected a string"),
            ("context", {"age": 3}, r"context\.age: given under 'user' as well"),
        ],
    )
    def test_value_of_the_wrong_type(self, client, document, group, change, message):
        document[group] = change
        with pytest.raises(InvalidRequestError, match=message):
            client.rank(document)

    @pytest.mark.parametrize(
        ("status", "body", "message"),
        [
            (503, b'{"error": "Queue is full"}', "HTTP 503: Queue is full\n.*overloaded"),
            (500, b"<b>proxy   down</b>", "HTTP 500: <b>proxy down</b>\n"),
            (400, b'{"error": "x is too large"}', "HTTP 400: x is too large\n.*refused"),
        ],
    )
    def test_an_error_of_the_server_is_shown(self, client, document, scripted, status, body, message):
        with RankClient(scripted({":predict": (status, body)})) as other:
            other._specs = client.inputs
            with pytest.raises(ServerError, match=message) as caught:
                other.rank(document)
        assert caught.value.status == status

    def test_a_version_that_goes_between_metadata_and_request(self, client, document, scripted):
        gone = b'{"error": "Servable not found for request: Latest(amen)"}'
        with RankClient(scripted({":predict": (404, gone)})) as other:
            other._specs = client.inputs
            with pytest.raises(ModelNotFoundError, match="knows no version"):
                other.rank(document)

    @pytest.mark.parametrize("body", [b"<html>hello</html>", b'{"metadata": 1}', b"[]"])
    def test_another_service_answers(self, document, scripted, body):
        client = RankClient(scripted({"/metadata": (200, body)}))
        with client, pytest.raises(ReplyError, match=r"(?s)HTTP 200: .*metadata of a TensorFlow.*REST port"):
            client.rank(document)

    @pytest.mark.parametrize("body", [b'{"outputs": {"score": [[1, 2, 3]]}}', b"{", b'{"outputs": "x"}'])
    def test_a_reply_without_probabilities(self, client, document, scripted, body):
        with RankClient(scripted({":predict": (200, body)})) as other:
            other._specs = client.inputs
            with pytest.raises(ReplyError, match=r"output 'probability' of shape \[1, 3\], got no such tensor"):
                other.rank(document)

    def test_output_of_another_shape(self, server, document):
        with RankClient(server.address, signature_name="times") as client:
            document["moveline"].pop()
            with pytest.raises(ReplyError, match=r"shape \[1, 3\], got shape \[1, 2\]"):
                client.rank(document)


class TestRequestFile:
    def test_read(self, tmp_path, document):
        path = tmp_path / "request.json"
        path.write_text(json.dumps(document))
        request = load_request(path)
        assert request == parse_request(document)
        assert (request.candidates[0].item_id, request.moveline[1].timestamp, request.context) == ("a", 10, {})

    def test_integers_are_taken_for_ids(self, document):
        document["candidates"] = [{"item_id": 7}]
        assert parse_request(document).candidates[0].item_id == "7"

    def test_lists_of_a_multi_valued_feature_are_one_text(self, document):
        document["user"] = {"tags": ["jazz", " live ", "", "vinyl"], "other": "jazz|live", "none": []}
        document["candidates"] = {"item_id": ["a", "b"], "tags": [["x", "y"], ["z"]]}
        request = parse_request(document)
        assert request.user == {"tags": "jazz|live|vinyl", "other": "jazz|live", "none": ""}
        assert [candidate.tags for candidate in request.candidates] == ["x|y", "z"]
        assert VALUE_SEPARATOR == features.VALUE_SEPARATOR

    def test_a_list_for_a_numeric_feature(self, document):
        request = parse_request(document | {"user": {"age": ["a", "b"]}, "candidates": [{"item_id": "i"}]})
        specs = {name: InputSpec(name, kind, None) for name, kind in (("age", "DT_FLOAT"), ("scene", "DT_STRING"))}
        with pytest.raises(InvalidRequestError, match=r'user\.age: expected a number, got "a\|b"'):
            build_columns(request, specs)

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"candidates": [{"item_id": "a"}, {}]}, "candidates[1].item_id: missing"),
            ({"candidates": [{"item_id": ""}]}, 'candidates[0].item_id: expected a non-empty string, got ""'),
            ({"candidates": [{"item_id": None}]}, "candidates[0].item_id: expected a string, got null"),
            ({"candidates": [{"item_id": "a", "price": [1]}]}, "candidates[0].price: expected a string, a number"),
            ({"user": {"tags": ["a", 5]}}, "user.tags: expected a string, a number, null or a list of strings, got"),
            ({"user": {"tags": ["a", "b|c"]}}, 'user.tags: expected values without "|", which separates them'),
            ({"candidates": [{"item_id": "a", "tags": ["|"]}]}, 'candidates[0].tags: expected values without "|"'),
            ({"candidates": "a"}, 'candidates: expected a list of objects, got "a"'),
            ({"candidates": ["a"]}, 'candidates[0]: expected an object, got "a"'),
            ({"timestamp": 1_700_000_000_000}, "timestamp: expected unix seconds, got 1700000000000, which"),
            ({"timestamp": "now"}, 'timestamp: expected unix seconds as a whole number, got "now"'),
            ({"moveline": [event(timestamp=1_800_000_000)]}, "moveline[0].timestamp: expected a time up to the"),
            ({"moveline": [event(scene=True)]}, "moveline[0].scene: expected a string, got true"),
            ({"user": {"age": {}}}, "user.age: expected a string, a number, null or a list"),
            ({"scene": ""}, "scene: expected a non-empty string"),
            ({"candidate": []}, "candidate: unknown key; did you mean 'candidates'?"),
        ],
    )  # fmt: skip
    def test_problems_name_their_path(self, document, change, problem):
        with pytest.raises(InvalidRequestError) as caught:
            parse_request(document | change)
        assert [text for text in caught.value.problems if text.startswith(problem)], caught.value.problems
        assert isinstance(caught.value, RankError)

    def test_all_problems_are_told_at_once(self):
        with pytest.raises(InvalidRequestError, match="4 problems") as caught:
            parse_request({"user": 1})
        assert [text.split(":")[0] for text in caught.value.problems] == ["timestamp", "scene", "user", "candidates"]

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (None, "No such file"),
            (b"\xff\xfe", "not UTF-8"),
            (b'{"scene": \n feed}', "line 2, column 2: expected JSON"),
            (b"[]", "the document: expected an object, got []"),
        ],
    )
    def test_unreadable_files(self, tmp_path, content, problem):
        path = tmp_path / "request.json"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InvalidRequestError, match=problem.replace("[]", r"\[\]")) as caught:
            load_request(path)
        assert str(path) in str(caught.value)


def test_missing_values_take_the_dtypes_empty_value():
    specs = [
        ("timestamp", "DT_INT64"), ("scene", "DT_STRING"), ("user_id", "DT_STRING"), ("age", "DT_FLOAT"),
        ("city", "DT_STRING"), ("level", "DT_INT64"), ("moveline_item_id", "DT_STRING"),
        ("moveline_timestamp", "DT_INT64"), ("moveline_price", "DT_FLOAT"), ("candidate_item_id", "DT_STRING"),
        ("candidate_copy", "DT_FLOAT"), ("candidate_mask", "DT_BOOL"),
    ]  # fmt: skip
    request = parse_request({"timestamp": 5, "scene": "feed", "candidates": [{"item_id": "a"}, {"item_id": "b"}]})
    columns = build_columns(request, {name: InputSpec(name, dtype, None) for name, dtype in specs})
    assert json.dumps(columns) == json.dumps(
        {
            "timestamp": [5],
            "scene": ["feed"],
            "user_id": [""],
            "age": [float("nan")],
            "city": [""],
            "level": [0],
            "moveline_item_id": [[""]],
            "moveline_timestamp": [[0]],
            "moveline_price": [[float("nan")]],
            "candidate_item_id": [["a", "b"]],
            "candidate_copy": [[float("nan"), float("nan")]],
            "candidate_mask": [[True, True]],
        }
    )


def test_table_shows_the_most_probable_first_and_keeps_the_index(document):
    document["candidates"][0]["item_id"] = "[red]a"  # not to be taken for markup
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(format_ranking(parse_request(document), [0.25, float("nan"), 0.75]))
    rows = [line.split() for line in console.export_text().splitlines() if "0." in line or "nan" in line]
    cells = [[cell for cell in row if cell.strip("│┃|")] for row in rows]
    assert cells == [
        ["1", "c", "?", "0.750000", "2"],
        ["2", "[red]a", "hats", "0.250000", "0"],
        ["3", "b", "shoes", "nan", "1"],
    ]
    assert len(format_ranking(parse_request(document), [0.1, 0.2, 0.3], top=2).rows) == 2
    with pytest.raises(ValueError, match="expected 3 probabilities"):
        format_ranking(parse_request(document), [0.1])
