"""Errors of the double: `ApiError` becomes an HTTP reply; `ServeError` and its children stop the command."""

# The canonical status codes, by the numbers TensorFlow's exceptions carry.
CODE_NAMES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)

_HTTP_STATUS = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class ApiError(Exception):
    """A request that is answered with an error.

    Args:
        code: canonical code name, e.g. "INVALID_ARGUMENT".
        message: text of the reply's "error" key, the server's own wording.
        empty_body: True for the one error that the server sends without JSON.
    """

    def __init__(self, code: str, message: str, *, empty_body: bool = False):
        super().__init__(message)
        self.code = code
        self.message = message
        self.empty_body = empty_body

    @property
    def http_status(self) -> int:
        return _HTTP_STATUS.get(self.code, 500)

    @property
    def status_text(self) -> str:
        """The form that the server quotes inside other messages: `CODE: message`."""
        return f"{self.code}: {self.message}"


def invalid(message: str) -> ApiError:
    """The commonest error: INVALID_ARGUMENT, HTTP 400."""
    return ApiError("INVALID_ARGUMENT", message)


class ServeError(Exception):
    """The local server cannot start or go on; the message says what to do."""


class PortInUseError(ServeError):
    """Another process listens on the wanted port."""

    def __init__(self, host: str, port: int):
        super().__init__(
            f"Port {port} on {host} is in use by another process (perhaps an earlier `amen serve`). "
            f"Stop that process or choose another port, e.g. `--port {port + 1 if port < 65535 else port - 1}`."
        )
        self.host = host
        self.port = port


class NoModelError(ServeError):
    """The push folder is missing or holds no version."""


class ModelConfigError(ServeError):
    """The models.config file cannot be used."""


class ModelLoadError(ServeError):
    """A version present at start cannot be loaded."""
