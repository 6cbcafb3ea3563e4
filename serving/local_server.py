"""Local REST server over a push folder: a development double of TensorFlow Serving, NOT TensorFlow Serving.

In: `<base_path>/<version digits>/saved_model.pb`, as Pusher leaves it, or a models.config file. Out: TensorFlow
Serving's REST API (status, metadata, :predict, :classify, :regress) on a local port. Meant for trying a pushed model
and for tests; production is the tensorflow/serving image. `serving/README.md` has the differences.
"""

import contextlib
import dataclasses
import functools
import logging
import math
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from serving.double.app import RestApp
from serving.double.config import ModelConfig, read_models_config
from serving.double.errors import (
    ModelConfigError,
    ModelLoadError,
    NoModelError,
    PortInUseError,
    ServeError,
)
from serving.double.listening import bound, listen
from serving.double.metrics import Metrics
from serving.double.options import ServerOptions
from serving.double.routes import RestApi
from serving.double.versions import ModelManager, VersionRecord

__all__ = [
    "ModelConfigError",
    "ModelLoadError",
    "NoModelError",
    "PortInUseError",
    "RunningServer",
    "ServeError",
    "ServerOptions",
    "running_server",
    "serve",
]

_DEFAULTS = ServerOptions()


@dataclasses.dataclass(frozen=True)
class RunningServer:
    """A server that answers.

    Attributes:
        host, port: where it listens.
        models: name -> served version numbers at the start, ascending.
        metrics_path: where Prometheus reads its metrics, None where it cannot.
    """

    host: str
    port: int
    models: dict[str, list[int]]
    metrics_path: str | None
    _manager: ModelManager = dataclasses.field(repr=False)

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def banner(self) -> str:
        """What a person should see at the start, several lines."""
        lines = ["Development double of TensorFlow Serving's REST API: for trying models, not for production."]
        for name, versions in self.models.items():
            lines.append(f"  {self.address}/v1/models/{name}  version {', '.join(map(str, versions))}")
        if self.metrics_path:
            lines.append(f"  {self.address}{self.metrics_path}  metrics for Prometheus")
        lines.append("New versions in the folder are loaded as they appear. Ctrl+C stops the server.")
        return "\n".join(lines)

    def status(self, name: str) -> list[VersionRecord]:
        """States of a model's versions, newest first."""
        return self._manager.status(name)


def serve(
    base_path: str | Path | None,
    model_name: str = "amen",
    host: str = "127.0.0.1",
    port: int = 8501,
    *,
    models_config: str | Path | None = None,
    options: ServerOptions = _DEFAULTS,
    on_ready: Callable[[RunningServer], None] | None = None,
    on_event: Callable[[str], None] | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM, then finishes the running requests and returns; a second one ends the process.

    Args:
        base_path: push folder with numbered version folders; not read when `models_config` is given.
        model_name: name in URLs, `/v1/models/NAME`.
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        models_config: a models.config file (several models, version policies, labels) in place of `base_path`.
        options: limits, intervals, metrics.
        on_ready: called once when requests are answered; by default the banner is printed on standard error.
        on_event: called with a line of text when a version comes, goes or fails; by default it is printed likewise.

    Raises:
        PortInUseError: somebody listens on the port.
        NoModelError: no version to serve in the folder.
        ModelLoadError: the version to serve does not load.
        ModelConfigError: models.config cannot be used.
    """
    on_ready = on_ready or (lambda server: _print(server.banner))
    on_event = on_event or _print
    with _loaded(base_path, model_name, host, port, models_config, options, on_event) as (server, info):
        server.when_started = lambda: on_ready(info)
        with _stop_on_signals(server):
            server.run(sockets=[server.listener])


@contextlib.contextmanager
def running_server(
    base_path: str | Path | None,
    model_name: str = "amen",
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    models_config: str | Path | None = None,
    options: ServerOptions = _DEFAULTS,
    on_event: Callable[[str], None] | None = None,
) -> Iterator[RunningServer]:
    """The same server in a thread of this process, by default on a free port, for the length of a `with` block.

    Args:
        Those of `serve`; events go nowhere by default.

    Raises:
        ServeError: as `serve`.
    """
    silent = on_event or (lambda text: None)
    with _loaded(base_path, model_name, host, port, models_config, options, silent) as (server, info):
        started = threading.Event()
        server.when_started = started.set
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [server.listener]}, name="amen-local-server", daemon=True
        )
        thread.start()
        try:
            while not started.wait(0.05):
                if not thread.is_alive():
                    raise ServeError(f"The local server ended while starting on {info.address}; see the log above.")
            yield info
        finally:
            server.should_exit = True
            thread.join(options.stop_seconds + 5)


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling, which ends the process, and with a call when it listens."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket):
        super().__init__(config)
        self.listener = listener
        self.when_started: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self.when_started()


@contextlib.contextmanager
def _loaded(
    base_path: str | Path | None,
    model_name: str,
    host: str,
    port: int,
    models_config: str | Path | None,
    options: ServerOptions,
    on_event: Callable[[str], None],
) -> Iterator[tuple[_Server, RunningServer]]:
    """A server whose models are loaded and whose port is its own, not yet answering."""
    reread = None
    if models_config is not None:
        configs = read_models_config(models_config)
        reread = functools.partial(read_models_config, models_config)
    elif base_path is not None:
        configs = [ModelConfig(model_name, Path(base_path))]
    else:
        raise NoModelError("Nothing to serve: give the push folder of an `amen run` or a models.config file.")
    # The port is taken first (a wrong one should not cost a model load) but opened only once the models answer.
    with bound(host, port) as listener:
        metrics = Metrics()
        manager = ModelManager(configs, options, metrics, on_event)
        try:
            manager.load_all()
            listen(listener, host, port)
            manager.start(reread)
            models = {
                config.name: sorted(r.version for r in manager.status(config.name) if r.state == "AVAILABLE")
                for config in configs
            }
            info = RunningServer(host, listener.getsockname()[1], models, options.monitoring_path, manager)
            config = uvicorn.Config(
                RestApp(RestApi(manager, options, metrics), options),
                lifespan="off",
                http="h11",  # its raw paths are the ones that the routes were tested with
                ws="none",
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                server_header=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=math.ceil(options.stop_seconds),
            )
            yield _Server(config, listener), info
        finally:
            manager.stop()


@contextlib.contextmanager
def _stop_on_signals(server: uvicorn.Server) -> Iterator[None]:
    """The first SIGINT or SIGTERM stops gracefully, a second one ends the process; outside the main thread: nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: object) -> None:
        server.should_exit = True
        for number in before:
            signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
