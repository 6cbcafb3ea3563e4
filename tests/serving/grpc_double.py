"""A gRPC server over the double's models, for tests: Predict and GetModelMetadata of TensorFlow Serving."""

import contextlib
from concurrent import futures

import grpc
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from serving.double.errors import ApiError
from serving.double.model import check_inputs


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers from a `ModelManager`; `fail`: codes that the next calls are answered with, for a `reason`."""

    def __init__(self, manager):
        self.manager, self.fail, self.calls, self.reason = manager, [], [], "as the test wants"

    @contextlib.contextmanager
    def _borrowed(self, spec, context):
        self.calls.append(spec)
        if self.fail:
            context.abort(self.fail.pop(0), self.reason)
        version = spec.version.value if spec.HasField("version") else None
        try:
            with self.manager.borrow(spec.name, version, spec.version_label or None) as (model, number):
                yield model, number
        except ApiError as error:
            context.abort(grpc.StatusCode[error.code], error.message)

    def Predict(self, request, context):
        with self._borrowed(request.model_spec, context) as (model, _):
            signature = model.signatures[request.model_spec.signature_name or "serving_default"]
            check_inputs(set(request.inputs), set(signature.inputs))
            feeds = {signature.inputs[name].name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            wanted = [name for name in signature.outputs if name in request.output_filter]
            found = model.run(feeds, [signature.outputs[name].name for name in wanted])
            reply = predict_pb2.PredictResponse()
            for name, value in zip(wanted, found, strict=True):
                reply.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return reply

    def GetModelMetadata(self, request, context):
        with self._borrowed(request.model_spec, context) as (model, number):
            reply = get_model_metadata_pb2.GetModelMetadataResponse()
            reply.model_spec.version.value = number
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=model.signatures)
            reply.metadata["signature_def"].Pack(signatures)
            return reply


@contextlib.contextmanager
def grpc_server(manager):
    """(address, service) of a server on a free port."""
    service, server = Service(manager), grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", service
    finally:
        server.stop(None)
