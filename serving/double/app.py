"""ASGI application around RestApi: reads the body up to a limit, answers in a worker thread, says what it is."""

import urllib.parse

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.double.json_writer import error_body
from serving.double.routes import MAX_BODY_BYTES, Reply, RestApi

SERVER_HEADER = "amen-tf-development-double (not TensorFlow Serving)"


class RestApp:
    """Serves HTTP requests; the paths are matched on the raw target, so no framework router comes before `RestApi`."""

    def __init__(self, api: RestApi):
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"expected an http scope, got {scope['type']}: run uvicorn with lifespan off")
        request = Request(scope, receive)
        try:
            body = await _read_body(request)
        except ClientDisconnect:
            return
        if body is None:
            message = f"The body is larger than the development double takes ({MAX_BODY_BYTES} bytes)."
            reply = Reply(413, error_body(message).encode())
        else:
            headers = {name.lower(): value for name, value in request.headers.items()}
            reply = await run_in_threadpool(self._api.handle, request.method, _target(scope), headers, body)
        headers = {"Server": SERVER_HEADER}
        if reply.content_type:
            headers["Content-Type"] = reply.content_type
        await Response(reply.body, reply.status, headers)(scope, receive, send)


async def _read_body(request: Request) -> bytes | None:
    """The body, or None when it is too large; such a body is read to its end so that the client gets the answer."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            chunks.append(chunk)
        else:
            chunks.clear()
    return b"".join(chunks) if size <= MAX_BODY_BYTES else None


def _target(scope: Scope) -> str:
    raw = scope.get("raw_path") or urllib.parse.quote(scope["path"]).encode()
    query = scope.get("query_string", b"")
    return (raw + b"?" + query if query else raw).decode("latin-1")
