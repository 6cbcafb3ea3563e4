"""JSON of the status and metadata endpoints, in the layout that protobuf's JSON printer gives the server's replies."""

import json
from collections.abc import Mapping, Sequence

from serving.double.versions import VersionRecord


def status_json(records: Sequence[VersionRecord]) -> str:
    """Reply to GET /v1/models/NAME: the versions in the given order."""
    statuses = [
        {
            "version": str(record.version),
            "state": record.state,
            "status": {"error_code": record.error_code, "error_message": record.error_message},
        }
        for record in records
    ]
    return json.dumps({"model_version_status": statuses}, indent=1, ensure_ascii=False) + "\n"


def metadata_json(name: str, version: int, signatures: Mapping[str, object]) -> str:
    """Reply to GET .../metadata.

    Args:
        name: model name.
        version: the version that the signatures belong to.
        signatures: name -> SignatureDef proto.
    """
    document = {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": {key: _signature(value) for key, value in signatures.items()}}},
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _signature(signature) -> dict:
    return {
        "inputs": {key: _tensor_info(info) for key, info in signature.inputs.items()},
        "outputs": {key: _tensor_info(info) for key, info in signature.outputs.items()},
        "method_name": signature.method_name,
        "defaults": {},
    }


def _tensor_info(info) -> dict:
    # Imported late: whoever holds a SignatureDef has TensorFlow loaded already.
    from tensorflow.core.framework import types_pb2

    shape = info.tensor_shape
    result = {
        "dtype": types_pb2.DataType.Name(info.dtype),
        "tensor_shape": {
            "dim": [{"size": str(dim.size), "name": dim.name} for dim in shape.dim],
            "unknown_rank": shape.unknown_rank,
        },
    }
    if info.WhichOneof("encoding") in (None, "name"):
        result["name"] = info.name
    return result
