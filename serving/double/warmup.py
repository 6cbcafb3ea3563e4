"""Replays a version's warm-up requests before it answers, as the server does: a broken record fails the load."""

from serving.double.errors import ApiError
from serving.double.model import LoadedModel, check_inputs, quiet_tensorflow

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
_MAX_RECORDS = 1000


def replay_warmup(model: LoadedModel) -> int:
    """Runs the predict records of `assets.extra/tf_serving_warmup_requests` in order.

    Args:
        model: the loaded version; nothing happens where its folder has no such file.

    Returns:
        The number of requests run.

    Raises:
        ApiError: the file is cut off or too long, or a record is no PredictionLog, names an unknown signature, lacks an
            input or fails in the graph.
    """
    path = model.folder / WARMUP_FILE
    if not path.is_file():
        return 0
    from google.protobuf.message import DecodeError

    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise ApiError("FAILED_PRECONDITION", "Warm-up needs the package tensorflow-serving-api") from error

    count = 0
    for data in _records(str(path)):
        count += 1
        where = f"Warm-up record {count} of {path}"
        if count > _MAX_RECORDS:
            raise ApiError(
                "INVALID_ARGUMENT", f"Number of warmup records exceeds the maximum ({_MAX_RECORDS}) at {path}"
            )
        try:
            log = prediction_log_pb2.PredictionLog.FromString(data)
        except DecodeError as error:
            raise ApiError("INVALID_ARGUMENT", f"{where}: not a PredictionLog: {error}") from error
        if log.WhichOneof("log_type") != "predict_log":
            continue  # the double replays :predict only
        try:
            _run(model, log.predict_log.request)
        except ApiError as error:
            raise ApiError(error.code, f"{where}: {error.message}") from error
    return count


def _records(path: str):
    tf = quiet_tensorflow()
    try:
        yield from tf.data.TFRecordDataset(path).as_numpy_iterator()
    except tf.errors.OpError as error:
        raise ApiError("DATA_LOSS", f"Failed to read warm-up records from {path}: {error.message}") from error


def _run(model: LoadedModel, request) -> None:
    tf = quiet_tensorflow()
    name = request.model_spec.signature_name or "serving_default"
    if name not in model.signatures:
        raise ApiError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
    signature = model.signatures[name]
    check_inputs(set(request.inputs), set(signature.inputs))
    feeds = {signature.inputs[key].name: tf.make_ndarray(value) for key, value in request.inputs.items()}
    model.run(feeds, [info.name for info in signature.outputs.values()], limited=False)
