"""The local REST server: versions that come, go and fail; start and stop."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import requests

from serving.double.config import ModelConfig
from serving.double.metrics import Metrics
from serving.double.versions import ModelManager
from serving.local_server import (
    ModelConfigError,
    ModelLoadError,
    NoModelError,
    PortInUseError,
    ServeError,
    ServerOptions,
    running_server,
    serve,
)

OFTEN = ServerOptions(poll_seconds=0.05, load_retry_seconds=0.1)


class TestVersions:
    def test_new_broken_and_removed_versions(self, push, tmp_path, wait_until):
        events = []
        push("scaled_2", tmp_path, 1)
        with running_server(tmp_path, "m", options=OFTEN, on_event=events.append) as server:
            session = requests.Session()

            def factor():
                reply = session.post(f"{server.address}/v1/models/m:predict", json={"inputs": 1}, timeout=10)
                assert reply.status_code == 200, reply.text
                return reply.json()["outputs"]

            def states():
                return {record.version: (record.state, record.error_code) for record in server.status("m")}

            answers, stop = [], threading.Event()

            def ask_on():
                while not stop.wait(0.002):
                    answers.append(factor())

            asking = threading.Thread(target=ask_on)
            asking.start()
            push("scaled_3", tmp_path, 2)
            wait_until(lambda: states().get(1, ("",))[0] == "END")
            stop.set()
            asking.join()
            assert factor() == 3.0
            assert answers == sorted(answers) and set(answers) <= {2.0, 3.0}, "no gap and no way back"

            broken = tmp_path / "3"
            broken.mkdir()
            wait_until(lambda: 3 in states())
            wait_until(lambda: any("next try in 0.1 s (1 of 5)" in event for event in events))
            assert states()[3] == ("LOADING", "OK"), "a push under way is tried again"
            (broken / "saved_model.pb").write_bytes(b"no such thing")
            wait_until(lambda: states()[3][0] == "END")
            assert states() == {1: ("END", "OK"), 2: ("AVAILABLE", "OK"), 3: ("END", "DATA_LOSS")}
            assert factor() == 3.0
            reply = session.post(f"{server.address}/v1/models/m/versions/3:predict", json={"inputs": 1}, timeout=10)
            assert (reply.status_code, reply.json()["error"]) == (404, "Servable not found for request: Specific(m, 3)")

            broken.rename(tmp_path / "broken")
            (tmp_path / "2").rename(tmp_path / "gone")
            wait_until(lambda: states()[2][0] == "END")
            assert factor() == 2.0, "the next lower version takes over"
            (tmp_path / "1").rename(tmp_path / "gone_too")
            wait_until(lambda: states()[1][0] == "END")
            assert session.post(f"{server.address}/v1/models/m:predict", json={"inputs": 1}).status_code == 404
        assert [event.split(" ")[1] for event in events if "loaded" in event] == ["2", "1"]
        assert sum("does not load and is skipped: DATA_LOSS" in event for event in events) == 1

    def test_warmup_records_are_replayed_and_a_bad_one_ends_the_start(self, push, tmp_path, write_warmup):
        push("scaled_2", tmp_path / "good", 1)
        write_warmup(tmp_path / "good" / "1", {"x": [1.0]})
        with running_server(tmp_path / "good", "m") as server:
            assert server.models == {"m": [1]}
        push("scaled_2", tmp_path / "bad", 1)
        write_warmup(tmp_path / "bad" / "1", {"z": [1.0]})
        with pytest.raises(ModelLoadError, match=r"Warm-up record 1 of .*Missing but required: \{x\}"):
            serve(tmp_path / "bad", "m", port=0)


class TestUnloading:
    """A version that a request still holds."""

    def manager(self, folder):
        made = ModelManager([ModelConfig("m", folder)], OFTEN, Metrics())
        made.load_all()
        return made, lambda: {record.version: record.state for record in made.status("m")}

    def test_it_is_unloading_until_its_last_request_ends(self, push, tmp_path):
        push("scaled_2", tmp_path, 1)
        manager, states = self.manager(tmp_path)
        with manager.borrow("m") as (model, _), manager.borrow("m"):
            push("scaled_3", tmp_path, 2)
            manager.poll()
            assert states() == {1: "UNLOADING", 2: "AVAILABLE"}
            signature = model.signatures["serving_default"]
            feeds = {signature.inputs["x"].name: np.float32([2.0])}
            assert model.run(feeds, [signature.outputs["y"].name])[0] == [4.0], "it still answers"
        assert states() == {1: "END", 2: "AVAILABLE"}
        manager.stop()
        assert states() == {1: "END", 2: "END"}

    def test_one_that_is_wanted_again_meanwhile_stays(self, push, tmp_path):
        push("scaled_2", tmp_path, 1)
        manager, states = self.manager(tmp_path)
        with manager.borrow("m"):
            push("scaled_3", tmp_path, 2)
            manager.poll()
            (tmp_path / "2").rename(tmp_path / "gone")
            manager.poll()
            assert states() == {1: "AVAILABLE", 2: "END"}
        assert states() == {1: "AVAILABLE", 2: "END"}
        manager.stop()


class TestStart:
    def test_port_in_use(self, push, tmp_path):
        push("scaled_2", tmp_path, 1)
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(PortInUseError, match=f"Port {port} .* in use .*--port {port + 1}"):
                serve(tmp_path, port=port)

    @pytest.mark.parametrize("port", [-1, 70000])
    def test_no_port(self, tmp_path, port):
        with pytest.raises(ServeError, match="from 0 to 65535"):
            serve(tmp_path, port=port)

    def test_unknown_host(self, tmp_path):
        with pytest.raises(ServeError, match=r"no\.such\.host\.invalid"):
            serve(tmp_path, host="no.such.host.invalid", port=0)

    def test_nothing_to_serve(self, tmp_path):
        for folder, found in ((tmp_path / "none", "does not exist"), (tmp_path, "an empty folder")):
            with pytest.raises(NoModelError, match=f"{found}.*amen run") as caught:
                serve(folder, port=0)
            assert str(folder) in str(caught.value)
        (tmp_path / "tmp.5").mkdir()
        (tmp_path / "6").mkdir()
        (tmp_path / "6").rename(tmp_path / "six")
        with pytest.raises(NoModelError, match=r"found six, tmp\.5"):
            serve(tmp_path, port=0)

    def test_a_broken_version_at_the_start(self, tmp_path):
        (tmp_path / "5").mkdir()
        with pytest.raises(ModelLoadError, match=r"Version 5 of model 'amen'.*NOT_FOUND: Could not find SavedModel"):
            serve(tmp_path, port=0)
        (tmp_path / "5" / "saved_model.pb").write_bytes(b"\x0c")
        with pytest.raises(ModelLoadError, match=r"Version 5 of model 'amen'.*DATA_LOSS"):
            serve(tmp_path, port=0)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, "cannot be read"),
            ("model_config_list { config { nam: 1 } }", "line:column"),
            ("", "names no model"),
            ('model_config_list { config { name: "a" } }', "needs name and base_path"),
            ('model_config_list { config { name: "a" base_path: "b" model_platform: "x" } }', "model_platform 'x'"),
        ],
    )
    def test_models_config_errors(self, tmp_path, text, message):
        path = tmp_path / "models.config"
        if text is not None:
            path.write_text(text)
        with pytest.raises(ModelConfigError, match=message):
            serve(None, models_config=path, port=0)

    def test_a_label_of_a_version_that_is_not_served(self, push, tmp_path):
        push("scaled_2", tmp_path / "m", 1)
        path = tmp_path / "models.config"
        path.write_text(
            f'model_config_list {{ config {{ name: "m" base_path: "{tmp_path}/m" '
            'version_labels { key: "stable" value: 4 } } }'
        )
        with pytest.raises(ModelConfigError, match=r"'stable' .*version 4, .*\(served: 1\)"):
            serve(None, models_config=path, port=0)

    def test_sigterm_finishes_the_running_request_and_returns(self, push, tmp_path):
        push("scaled_2", tmp_path, 1)
        replies, before = [], signal.getsignal(signal.SIGTERM)

        def ask_and_stop(server):
            body = b'{"instances": [1, 2]}'
            connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
            connection.putrequest("POST", "/v1/models/amen:predict")
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body[:5])
            time.sleep(0.2)  # the server has the request's head
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)
            connection.send(body[5:])
            reply = connection.getresponse()
            replies.append((reply.status, json.loads(reply.read())))
            connection.close()

        def on_ready(server):
            asking = threading.Thread(target=ask_and_stop, args=(server,))
            asking.start()
            threads.append(asking)

        threads = []
        serve(tmp_path, port=0, on_ready=on_ready)
        threads[0].join()
        assert replies == [(200, {"predictions": [2.0, 4.0]})]
        assert signal.getsignal(signal.SIGTERM) is before

    def test_what_has_not_ended_when_the_time_is_up_is_told_so(self, push, tmp_path):
        push("slow", tmp_path, 1)
        replies = []

        def ask(address):
            body = {"inputs": {"rounds": [10**12]}}
            replies.append(requests.post(f"{address}/v1/models/amen:predict", json=body, timeout=30))

        with running_server(tmp_path, options=ServerOptions(timeout_seconds=3, stop_seconds=0.5)) as server:
            asking = threading.Thread(target=ask, args=(server.address,))
            asking.start()
            time.sleep(0.5)
        asking.join()
        [reply] = replies
        assert reply.status_code == 503 and "told to stop" in reply.json()["error"]

    def test_a_second_signal_ends_the_process_at_once(self, push, tmp_path):
        push("slow", tmp_path, 1)
        program = (
            "import sys, requests, threading\n"
            "from serving.local_server import serve\n"
            "def ask(server):\n"
            "    requests.post(f'{server.address}/v1/models/amen:predict', json={'inputs': {'rounds': [10**12]}})\n"
            "def ready(server):\n"
            "    threading.Thread(target=ask, args=(server,), daemon=True).start()\n"
            "    print('ready', flush=True)\n"
            "serve(sys.argv[1], port=0, on_ready=ready)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE)
        try:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == -signal.SIGTERM
        finally:
            process.kill()
            process.communicate()

    @pytest.mark.slow
    def test_the_console_shows_the_banner_and_nothing_of_tensorflow(self, push, tmp_path):
        push("scaled_2", tmp_path, 1)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
        process = subprocess.Popen(
            [sys.executable, "-c", "from pipeline.cli import main; main()", "serve", tmp_path, "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            lines = [process.stdout.readline()]
            while lines[-1] and "own messages" not in lines[-1]:
                lines.append(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=20)
        finally:
            process.kill()
        assert (process.returncode, *rest) == (0, "", "")
        assert lines[0].startswith("Development double")
        assert len(lines) == 4
