"""JSON to tf.Example and scores back to JSON, for :classify and :regress."""

from collections.abc import Mapping

import numpy as np

from serving.double.errors import ApiError, invalid
from serving.double.json_reader import to_bytes
from serving.double.json_writer import PrettyWriter, debug_text, float_texts, string_text
from serving.double.metrics import Run
from serving.double.tensors import decode_base64, is_base64_object, json_type

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}
_MAX_INT64 = 2**63 - 1


def examples_from_document(document: dict) -> np.ndarray:
    """Serialized tf.Examples of a body with `examples` and, optionally, `context`, which is merged into each.

    Returns:
        [N] object array of bytes, N >= 1.

    Raises:
        ApiError: with the server's text.
    """
    # A serialized message followed by another is their merge, so the context is encoded once.
    context = _serialize(document["context"]) if "context" in document else b""
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {debug_text(document)} When method is classify, key 'examples' is expected and was not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise invalid(f"JSON Value: {debug_text(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid(f"JSON Value: {debug_text(document)} 'examples' value is an empty array")
    out = np.empty(len(examples), np.object_)
    out[:] = [context + _serialize(example) for example in examples]
    return out


def _serialize(value: object) -> bytes:
    from tensorflow.core.example import example_pb2

    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_type(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        # A name that is no UTF-8 fits no model, and none of Python's protobuf maps.
        feature = example.features.feature[name.encode("utf-8", "replace").decode()]
        for item in content if isinstance(content, list) else [content]:
            _add(feature, name, item)
    return example.SerializeToString()


def _add(feature, name: str, item: object) -> None:
    if isinstance(item, str):
        kind, value = "bytes_list", to_bytes(item)
    elif is_base64_object(item):
        kind, value = "bytes_list", None
    elif isinstance(item, (bool, int)):
        kind, value = "int64_list", int(item)
    elif isinstance(item, float):
        kind, value = "float_list", item
    else:
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(item)}")
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[present]}")
    if kind == "int64_list" and value > _MAX_INT64:
        raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    if kind == "float_list":
        with np.errstate(over="ignore"):
            value = float(np.float32(value))
    getattr(feature, kind).value.append(decode_base64(item) if value is None else value)


def regress(signatures: Mapping[str, object], run: Run, signature_name: str, examples: np.ndarray) -> str:
    """Reply to :regress: one number per example.

    Args:
        signatures: name -> SignatureDef proto of the model.
        run: runs the graph, as `LoadedModel.run`.
        signature_name: "" for `serving_default`.
        examples: [N] serialized tf.Examples.

    Raises:
        ApiError: the signature or its output is not one for regression.
    """
    signature = _signature(signatures, signature_name)
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    for side, tensors in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        if side not in tensors:
            raise invalid(f"No regression {side} found in SignatureDef: {signature}")
    [scores] = run({signature.inputs["inputs"].name: examples}, [signature.outputs["outputs"].name])
    shape = "[" + ",".join(map(str, scores.shape)) + "]"
    if scores.ndim != 1 and not (scores.ndim == 2 and scores.shape[1] == 1):
        raise invalid(f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {shape}")
    if len(scores) != len(examples):
        raise invalid(f"Input batch size did not match output batch size: {len(examples)} vs. {len(scores)}")
    if scores.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_enum_name(signature.outputs['outputs'])}")
    writer = PrettyWriter(single_line=True)
    writer.start_object()
    writer.key("results")
    writer.start_array()
    writer.extend(float_texts(scores.reshape(-1)))
    writer.end()
    writer.end()
    return writer.text()


def classify(signatures: Mapping[str, object], run: Run, signature_name: str, examples: np.ndarray) -> str:
    """Reply to :classify: a list of [label, score] per example.

    Args:
        signatures: name -> SignatureDef proto of the model.
        run: runs the graph, as `LoadedModel.run`.
        signature_name: "" for `serving_default`.
        examples: [N] serialized tf.Examples.

    Raises:
        ApiError: the signature or its outputs are not ones for classification.
    """
    signature = _signature(signatures, signature_name)
    outputs = signature.outputs
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {signature}")
    wanted = [name for name in ("classes", "scores") if name in outputs]
    if not wanted:
        raise invalid(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {signature}"
        )
    results = run({signature.inputs["inputs"].name: examples}, [outputs[name].name for name in wanted])
    found = dict(zip(wanted, results, strict=True))
    for name, array in found.items():
        shape = "[" + ",".join(map(str, array.shape)) + "]"
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {shape}")
        kind, expected = (np.object_, "DT_STRING") if name == "classes" else (np.float32, "DT_FLOAT")
        if array.dtype != kind:
            raise invalid(f"Expected {name} Tensor of {expected}. Got: {_enum_name(outputs[name])}")
        if len(array) != len(examples):
            raise invalid(f"Expected {name} output batch size of {len(examples)}. Got: {len(array)}")
    widths = [array.shape[1] for array in found.values()]
    if len(set(widths)) > 1:
        raise invalid(f"Tensors class and score should match in dim_size(1). Got {widths[0]} vs. {widths[1]}")
    return _classification_json(found, len(examples), widths[0])


def _classification_json(found: dict[str, np.ndarray], rows: int, width: int) -> str:
    size = rows * width
    labels = [""] * size
    if "classes" in found:
        labels = [value.decode("utf-8", "surrogateescape") for value in found["classes"].reshape(-1).tolist()]
    scores = float_texts(found["scores"].reshape(-1)) if "scores" in found else ["0.0"] * size
    pairs = [f"[{string_text(label)}, {score}]" for label, score in zip(labels, scores, strict=True)]
    writer = PrettyWriter()
    writer.start_object()
    writer.key("results")
    writer.start_array()
    writer.single_line = True
    for row in range(rows):
        writer.start_array()
        writer.extend(pairs[row * width : (row + 1) * width])
        writer.end()
    writer.single_line = False
    writer.end()
    writer.end()
    return writer.text()


def _signature(signatures: Mapping[str, object], name: str):
    name = name or "serving_default"
    if name not in signatures:
        raise ApiError("INVALID_ARGUMENT", f"No signature was found with the name: {name}")
    return signatures[name]


def _enum_name(tensor_info) -> str:
    from tensorflow.core.framework import types_pb2

    return types_pb2.DataType.Name(tensor_info.dtype)
