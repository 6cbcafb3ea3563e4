"""Ranking client for TensorFlow Serving's gRPC address, with the interface of the REST client.

In: a `UserRequest` (or the dict it is read from). Out: one probability per candidate, in candidate order. Needs the
packages grpcio and tensorflow-serving-api, and TensorFlow with them.
"""

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import tensor_util
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    model_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.columns import InputSpec
from serving.rank_errors import (
    InvalidRequestError,
    RankError,
    ReplyError,
    ServerError,
    ServerUnreachableError,
)
from serving.ranker import OUTPUT, Ranker

_DEFAULT_PORT = 8500
_SIGNATURES = "signature_def"
# UNAVAILABLE with this text comes from a server that batches; with others, from gRPC itself.
_QUEUE_FULL = "batch scheduling queue"
# The server's own table from its codes to HTTP's, for the codes that it answers with.
_HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
}


class GrpcRankClient(Ranker):
    """Ranks candidates on a TensorFlow Serving gRPC address. Not for sharing between threads.

    Args:
        address: `host:port`; the port is 8500 where none is given.
        credentials: for a server with TLS; None speaks without.
        others: see `Ranker`.

    Raises:
        InvalidRequestError: the address is none, or both version and label are given.
    """

    def __init__(self, address: str, *others: Any, credentials: grpc.ChannelCredentials | None = None, **options: Any):
        self._credentials = credentials
        super().__init__(address, *others, **options)

    def _open(self, address: str) -> str:
        if not address or "/" in address:
            raise InvalidRequestError(
                "The client", [f"address: expected host:port of a gRPC server, without http://, got '{address}'"]
            )
        place = address if ":" in address else f"{address}:{_DEFAULT_PORT}"
        # A reply of many candidates may be larger than the 4 MiB that gRPC takes.
        channel = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        # By default gRPC connects again after a second at the earliest, when the retries here are over.
        channel += [(f"grpc.{name}_reconnect_backoff_ms", 100) for name in ("initial", "min")]
        channel += [("grpc.max_reconnect_backoff_ms", 1000)]
        if self._credentials is None:
            self._channel = grpc.insecure_channel(place, options=channel)
        else:
            self._channel = grpc.secure_channel(place, self._credentials, options=channel)
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        return place

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _read_inputs(self) -> dict[str, InputSpec]:
        signatures = self._metadata()[1]
        if self.signature_name not in signatures:
            raise self._no_signature(list(signatures))
        return {
            name: InputSpec(name, types_pb2.DataType.Name(info.dtype), _rank(info.tensor_shape))
            for name, info in signatures[self.signature_name].inputs.items()
        }

    def _served_version(self) -> int:
        return self._metadata()[0]

    def _metadata(self) -> tuple[int, Mapping]:
        """The version that answers now, and its signatures."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=self._spec(), metadata_field=[_SIGNATURES])
        reply = self._call("GetModelMetadata", self._service.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        if not reply.metadata[_SIGNATURES].Unpack(signatures):
            raise ReplyError(f"{self.address} answered GetModelMetadata without signatures: expected a model's.")
        return reply.model_spec.version.value, signatures.signature_def

    def _scores(self, columns: Mapping[str, list], count: int, version: int | None) -> np.ndarray:
        request = predict_pb2.PredictRequest(model_spec=self._spec(version), output_filter=[OUTPUT])
        for name, values in columns.items():
            dtype = types_pb2.DataType.Value(self.inputs[name].dtype)
            try:
                request.inputs[name].CopyFrom(tensor_util.make_tensor_proto(values, dtype=dtype))
            except UnicodeEncodeError as error:
                raise InvalidRequestError("The request", [f"{name}: not a text that can be sent: {error}"]) from error
        reply = self._call("Predict", self._service.Predict, request)
        found = tensor_util.MakeNdarray(reply.outputs[OUTPUT]) if OUTPUT in reply.outputs else None
        return self._checked(
            f"Predict on {self.address}", found, count, f"outputs {', '.join(reply.outputs) or 'none'}"
        )

    def _spec(self, version: int | None = None) -> model_pb2.ModelSpec:
        spec = model_pb2.ModelSpec(name=self.model_name, signature_name=self.signature_name)
        version = self.version if version is None else version
        if version is not None:
            spec.version.value = version
        elif self.label is not None:
            spec.version_label = self.label
        return spec

    def _call(self, name: str, method: grpc.UnaryUnaryMultiCallable, request: Any) -> Any:
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise self._error(name, error.code(), error.details() or "") from error

    def _error(self, name: str, code: grpc.StatusCode, text: str) -> RankError:
        call = f"{name} on {self.address}"
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return self._too_slow(call)
        if code == grpc.StatusCode.UNAVAILABLE and _QUEUE_FULL in text:
            return ServerError(503, text, call, "Try again, or with fewer requests at once.", code.name)
        if code == grpc.StatusCode.UNAVAILABLE:
            return ServerUnreachableError(
                f"No TensorFlow Serving gRPC server answers at {self.address} ({text}). Give the address and gRPC port "
                "(8500 by default) of a running one; `amen serve` speaks REST alone."
            )
        unknown_label = code == grpc.StatusCode.INVALID_ARGUMENT and "version label" in text
        if code == grpc.StatusCode.NOT_FOUND or unknown_label:
            return self._not_served(code.name, text, "")
        hint = "Compare the features with the model's metadata." if _HTTP.get(code) == 400 else "Its log has more."
        return ServerError(_HTTP.get(code, 500), text or "no reason given", call, hint, code.name)


def _rank(shape: Any) -> int | None:
    return None if shape.unknown_rank else len(shape.dim)
