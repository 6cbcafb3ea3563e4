"""Reads a monitoring.config as tensorflow_model_server takes it: whether metrics are served, and where."""

from pathlib import Path

from serving.double.errors import ModelConfigError

DEFAULT_PATH = "/monitoring/prometheus/metrics"


def read_monitoring_config(path: str | Path) -> str | None:
    """The path that serves metrics, or None where the file does not enable them.

    Args:
        path: a MonitoringConfig in text form, e.g. `prometheus_config { enable: true }`.

    Raises:
        ModelConfigError: the file is missing or is no such message.
    """
    from google.protobuf import text_format

    expected = f'expected prometheus_config {{ enable: true path: "{DEFAULT_PATH}" }}'
    try:
        config = text_format.Parse(Path(path).read_text(encoding="utf-8"), _message_class()())
    except (OSError, UnicodeDecodeError) as error:
        raise ModelConfigError(f"monitoring.config '{path}' cannot be read: {error}; {expected}.") from error
    except text_format.ParseError as error:
        raise ModelConfigError(f"monitoring.config '{path}': {error} (line:column); {expected}.") from error
    served = config.prometheus_config.path or DEFAULT_PATH
    if not served.startswith("/"):
        raise ModelConfigError(f"monitoring.config '{path}': path '{served}' does not begin with '/'; {expected}.")
    return served if config.prometheus_config.enable else None


def _message_class():
    """MonitoringConfig, described here because the package tensorflow-serving-api leaves it out."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="monitoring_config.proto", package="tensorflow.serving")
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=field.TYPE_BOOL, label=field.LABEL_OPTIONAL)
    prometheus.field.add(name="path", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    monitoring = file.message_type.add(name="MonitoringConfig")
    monitoring.field.add(
        name="prometheus_config",
        number=1,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_OPTIONAL,
        type_name=".tensorflow.serving.PrometheusConfig",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("tensorflow.serving.MonitoringConfig")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)  # protobuf before 4.22, which stack py310 has
