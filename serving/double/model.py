"""One loaded SavedModel: a graph, a session and one compiled call per signature.

The graph runs through the session API by tensor name, as the server does: no shape check before the graph sees the
feed, and the graph's own error texts. TensorFlow is imported when a model is loaded, not when this module is.
"""

import contextlib
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from serving.double.errors import CODE_NAMES, ApiError
from serving.double.folders import model_file

_SERVE_TAG = "serve"


def quiet_tensorflow() -> ModuleType:
    """Imports TensorFlow with its native log off (errors come back as exceptions anyway); the user's setting wins."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    with warnings.catch_warnings():
        # Libraries that TensorFlow imports announce the end of their support for this Python on every start.
        warnings.simplefilter("ignore", FutureWarning)
        import tensorflow as tf

    return tf


@contextlib.contextmanager
def _muted_python_log() -> Iterator[None]:
    """Loading through the v1 API logs deprecation notes and 'Restoring parameters' for every version."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


class LoadedModel:
    """A SavedModel folder loaded for inference; thread-safe.

    Args:
        folder: version folder holding `saved_model.pb`.
        timeout_seconds: for one run of the graph, 0 for no limit.

    Raises:
        ApiError: the folder does not load; code and text as the server would report them in the model status.
    """

    def __init__(self, folder: Path, timeout_seconds: float = 0):
        self.folder = folder
        self._timeout_ms = round(timeout_seconds * 1000)
        self._lock = threading.Lock()
        self._borrowers = 0
        self._closed: Callable[[], None] | None = None  # set when it is to go
        self._calls: dict[tuple, Callable] = {}
        self._tf = quiet_tensorflow()
        self._check_readable()
        v1 = self._tf.compat.v1
        graph = self._tf.Graph()
        # One process may share the GPU with a trainer, so memory is taken as needed.
        config = v1.ConfigProto(gpu_options=v1.GPUOptions(allow_growth=True), allow_soft_placement=True)
        self._session = v1.Session(graph=graph, config=config)
        try:
            with graph.as_default(), _muted_python_log():
                meta_graph = v1.saved_model.load(self._session, [_SERVE_TAG], str(folder))
        except Exception as error:
            self._session.close()
            raise as_api_error(error) from error
        self.signatures = dict(meta_graph.signature_def)

    def _check_readable(self) -> None:
        """Finds the two commonest faults with the server's texts; Python's loader words them differently."""
        path = model_file(self.folder)
        if path is None:
            raise ApiError(
                "NOT_FOUND",
                f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {self.folder}. "
                "Check that the directory exists and that you have the right permissions for accessing it.",
            )
        if path.suffix == ".pbtxt":
            return
        from google.protobuf.message import DecodeError
        from tensorflow.core.protobuf import saved_model_pb2

        data, saved_model = path.read_bytes(), saved_model_pb2.SavedModel()
        unreadable = ApiError("DATA_LOSS", f"Can't parse {path} as binary proto")
        with warnings.catch_warnings():
            # Where other bytes happen to end a message, protobuf 3 stops there with a warning; later ones raise.
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                consumed = saved_model.ParseFromString(data)
            except DecodeError as error:
                raise unreadable from error
        if consumed != len(data) or (data and not saved_model.meta_graphs):
            raise unreadable
        if not any(_SERVE_TAG in graph.meta_info_def.tags for graph in saved_model.meta_graphs):
            raise ApiError(
                "NOT_FOUND",
                f"Could not find meta graph def matching supplied tags: {{ {_SERVE_TAG} }}. To inspect available "
                "tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`",
            )

    def input_types(self, signature) -> dict[str, str]:
        """Input name -> dtype name ("float32", "string", ...) of a SignatureDef."""
        return {name: self._tf.as_dtype(info.dtype).name for name, info in signature.inputs.items()}

    def run(self, feeds: Mapping[str, np.ndarray], fetches: list[str], limited: bool = True) -> list[np.ndarray]:
        """Runs the graph.

        Args:
            feeds: graph tensor name -> array; string tensors are object arrays of bytes.
            fetches: graph tensor names.
            limited: by the time limit of requests; warm-up is not.

        Returns:
            One array per fetch.

        Raises:
            ApiError: the graph failed, the op's code and text; DEADLINE_EXCEEDED after the time limit.
        """
        call = self._call(tuple(feeds), tuple(dict.fromkeys(fetches)), self._timeout_ms if limited else 0)
        try:
            results = call(*feeds.values())
        except Exception as error:
            raise as_api_error(error) from error
        by_name = dict(zip(dict.fromkeys(fetches), results, strict=True))
        return [_as_array(by_name[name]) for name in fetches]

    def _call(self, feeds: tuple, fetches: tuple, timeout_ms: int) -> Callable:
        key = feeds, fetches, timeout_ms
        with self._lock:
            if key not in self._calls:
                from tensorflow.core.protobuf import config_pb2

                # The server hands the session its time limit in the same way, so the error is the same, too.
                limit = config_pb2.RunOptions(timeout_in_ms=timeout_ms)
                options = config_pb2.CallableOptions(feed=list(feeds), fetch=list(fetches), run_options=limit)
                try:
                    self._calls[key] = self._session._make_callable_from_options(options)
                except Exception as error:
                    raise as_api_error(error) from error
            return self._calls[key]

    @contextlib.contextmanager
    def borrowed(self) -> Iterator["LoadedModel"]:
        """Keeps the session open while a request uses it."""
        with self._lock:
            self._borrowers += 1
        try:
            yield self
        finally:
            with self._lock:
                self._borrowers -= 1
            self._close_if_idle()

    def retire(self, closed: Callable[[], None] = lambda: None) -> None:
        """Frees the session, at once or when its last request ends, and then calls `closed`; once in its life."""
        self._closed = closed
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        with self._lock:
            if self._closed is None or self._borrowers or self._session is None:
                return
            session, self._session = self._session, None
            self._calls.clear()
        session.close()
        self._closed()


def check_inputs(sent: set[str], wanted: set[str]) -> None:
    """Raises ApiError INVALID_ARGUMENT, in the server's words, unless these are the inputs of the signature."""
    if sent != wanted:
        raise ApiError(
            "INVALID_ARGUMENT",
            f"input size does not match signature: {len(sent)}!={len(wanted)} len({{{','.join(sorted(sent))}}}) != "
            f"len({{{','.join(sorted(wanted))}}}). Sent extra: {{{','.join(sorted(sent - wanted))}}}. Missing but "
            f"required: {{{','.join(sorted(wanted - sent))}}}.",
        )


def _as_array(result: object) -> np.ndarray:
    # A scalar string comes as bytes, which NumPy would make a fixed-width type that drops trailing zeros.
    return np.array(result, np.object_) if isinstance(result, bytes) else np.asarray(result)


def as_api_error(error: Exception) -> ApiError:
    """Whatever loading or running a graph raised, with the server's code for it."""
    tf = quiet_tensorflow()
    if isinstance(error, ApiError):
        return error
    if isinstance(error, tf.errors.OpError):
        # Loading through Python puts a heading before the op's own text.
        return ApiError(CODE_NAMES[error.error_code], error.message.removeprefix("Graph execution error:\n\n"))
    if isinstance(error, FileNotFoundError):
        return ApiError("NOT_FOUND", f"{error.filename}; No such file or directory")
    if isinstance(error, (TypeError, ValueError)):
        return ApiError("INVALID_ARGUMENT", str(error))
    return ApiError("INTERNAL", f"{type(error).__name__}: {error}")
