"""ASGI application around RestApi: reads the body within its limits, answers in a worker thread, says what it is."""

import asyncio
import concurrent.futures
import os
import urllib.parse

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.double.json_writer import error_body
from serving.double.options import ServerOptions
from serving.double.routes import Reply, RestApi

# As many as the server has by default (`--rest_api_num_threads`); more only wait for each other's Python.
_WORKERS = 4 * (os.cpu_count() or 1)
SERVER_HEADER = "amen-tf-development-double (not TensorFlow Serving)"


class RestApp:
    """Serves HTTP requests; the paths are matched on the raw target, so no framework router comes before `RestApi`."""

    def __init__(self, api: RestApi, options: ServerOptions):
        self._api = api
        self._options = options
        self._workers = concurrent.futures.ThreadPoolExecutor(_WORKERS, "amen-rest")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"expected an http scope, got {scope['type']}: run uvicorn with lifespan off")
        request = Request(scope, receive)
        try:
            reply = await self._reply(request, _target(scope))
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            reply = _refusal(503, "The server was told to stop before this request was answered.")
        headers = {"Server": SERVER_HEADER}
        if reply.content_type:
            headers["Content-Type"] = reply.content_type
        if reply.status == 408:
            headers["Connection"] = "close"  # what still comes of the body must not be read as the next request
        await Response(reply.body, reply.status, headers)(scope, receive, send)

    async def _reply(self, request: Request, target: str) -> Reply:
        limit, seconds = self._options.max_body_bytes, self._options.timeout_seconds
        try:
            body = await asyncio.wait_for(_read_body(request, limit), seconds)
        except asyncio.TimeoutError:
            return _refusal(408, f"The body did not arrive within {seconds:g} s.")
        if body is None:
            return _refusal(413, f"The body is larger than the development double takes ({limit} bytes).")
        headers = {name.lower(): value for name, value in request.headers.items()}
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, self._api.handle, request.method, target, headers, body)


def _refusal(status: int, message: str) -> Reply:
    return Reply(status, error_body(message).encode())


async def _read_body(request: Request, limit: int) -> bytes | None:
    """The body, or None when it is too large; such a body is read to its end so that the client gets the answer."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        else:
            chunks.clear()
    return b"".join(chunks) if size <= limit else None


def _target(scope: Scope) -> str:
    raw = scope.get("raw_path") or urllib.parse.quote(scope["path"]).encode()
    query = scope.get("query_string", b"")
    return (raw + b"?" + query if query else raw).decode("latin-1")
