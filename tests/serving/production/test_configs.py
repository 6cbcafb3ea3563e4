"""The server's configurations against the messages that it reads them into, and what their numbers must agree on."""

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from amen_tf.config import PushSettings
from serving.rollout.config_file import ConfigFile
from serving.rollout.steps import CANARY, STABLE
from tests.serving.production.files import COMPONENTS, CONTAINER, PRODUCTION, flags, models_config

# tensorflow-serving-api has no module for these two: session_bundle_config.proto and monitoring_config.proto.
FIELDS = {
    "BatchingParameters": [
        ("max_batch_size", 1, ".google.protobuf.Int64Value"),
        ("batch_timeout_micros", 2, ".google.protobuf.Int64Value"),
        ("max_enqueued_batches", 3, ".google.protobuf.Int64Value"),
        ("num_batch_threads", 4, ".google.protobuf.Int64Value"),
        ("thread_pool_name", 5, ".google.protobuf.StringValue"),
        ("allowed_batch_sizes", 6, "repeated int64"),
        ("pad_variable_length_inputs", 7, "bool"),
        ("enable_large_batch_splitting", 8, ".google.protobuf.BoolValue"),
        ("max_execution_batch_size", 9, ".google.protobuf.Int64Value"),
    ],
    "PrometheusConfig": [("enable", 1, "bool"), ("path", 2, "string")],
    "MonitoringConfig": [("prometheus_config", 1, ".amen.test.PrometheusConfig")],
}


@pytest.fixture(scope="module")
def parse():
    """parse(message name, file name): a file of config/ read into one of FIELDS."""
    file = descriptor_pb2.FileDescriptorProto(
        name="amen_test.proto", package="amen.test", syntax="proto3", dependency=["google/protobuf/wrappers.proto"]
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, fields in FIELDS.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            repeated, _, scalar = kind.rpartition(" ")
            field = described.field.add(name=name, number=number)
            field.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind.startswith("."):
                field.type, field.type_name = kinds.TYPE_MESSAGE, kind
            else:
                field.type = getattr(kinds, f"TYPE_{scalar.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())

    def _parse(message, name):
        descriptor = pool.FindMessageTypeByName(f"amen.test.{message}")
        if hasattr(message_factory, "GetMessageClass"):
            kind = message_factory.GetMessageClass(descriptor)
        else:
            kind = message_factory.MessageFactory(pool).GetPrototype(descriptor)
        return text_format.Parse((PRODUCTION / "config" / name).read_text(), kind(), descriptor_pool=pool)

    return _parse


def test_models_config():
    entry = models_config()
    versions = set(entry.model_version_policy.specific.versions)
    assert entry.model_platform == "tensorflow"
    assert set(entry.version_labels) == {STABLE, CANARY}
    assert set(entry.version_labels.values()) == versions
    # Pusher writes <push.folder>/<push.model_name>/<version>, and the volume /models is push.folder.
    assert entry.name == PushSettings().model_name
    assert entry.base_path == f"/models/{PushSettings().model_name}"


def test_models_config_can_be_edited_and_keeps_its_reasons(tmp_path):
    path = tmp_path / "models.config"
    text = (PRODUCTION / "config" / "models.config").read_text()
    path.write_text(text)
    file = ConfigFile(path, "amen")
    file.put(add=1718600000, labels={"canary": 1718600000, "previous": 1718000000})
    edited = path.read_text()
    assert [line for line in text.splitlines() if line not in edited.splitlines()] == [
        '    version_labels { key: "canary" value: 1718000000 }'
    ]
    assert set(ConfigFile(path, "amen").versions) == {1718000000, 1718600000}


def test_batching_config(parse):
    batching = parse("BatchingParameters", "batching.config")
    sizes = list(batching.allowed_batch_sizes)
    assert sizes == sorted(set(sizes)) and sizes[-1] == batching.max_batch_size.value
    assert not batching.pad_variable_length_inputs, "it pads with the first element"
    assert 0 < batching.batch_timeout_micros.value <= 2000
    assert batching.num_batch_threads.value and batching.max_enqueued_batches.value
    # Every caller blocks a thread: fewer could never fill two batches.
    assert int(flags(CONTAINER["args"])["rest_api_num_threads"]) >= 2 * batching.max_batch_size.value


def test_monitoring_config(parse):
    config = parse("MonitoringConfig", "monitoring.config").prometheus_config
    assert config.enable and config.path == "/monitoring/prometheus/metrics"


def test_session_config():
    from tensorflow.core.protobuf import config_pb2

    text = (PRODUCTION / "config" / "session.config").read_text()
    session = text_format.Parse(text, config_pb2.ConfigProto())
    assert session.allow_soft_placement
    # The server overwrites these by its flags, given or not: a number here would be a lie.
    assert not session.intra_op_parallelism_threads and not session.inter_op_parallelism_threads
    assert not session.gpu_options.per_process_gpu_memory_fraction


@pytest.mark.parametrize("file", ["batching.config", "monitoring.config"])
def test_a_field_that_does_not_exist_is_found(parse, file, monkeypatch, tmp_path):
    config = tmp_path / "config"
    config.mkdir()
    (config / file).write_text((PRODUCTION / "config" / file).read_text() + "\nmax_batch: 1\n")
    monkeypatch.setattr("tests.serving.production.test_configs.PRODUCTION", tmp_path)
    with pytest.raises(text_format.ParseError, match="max_batch"):
        parse("BatchingParameters" if file.startswith("batching") else "MonitoringConfig", file)


@pytest.mark.parametrize("name", ["models", "batching", "monitoring", "session"])
def test_every_setting_says_why(name):
    """A comment above each field or group; a list of sizes needs one, not seven."""
    lines = (PRODUCTION / "config" / f"{name}.config").read_text().splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        setting = line.strip().partition(":")[0].partition(" ")[0]
        if setting in (
            "",
            "}",
            "config",
            "model_config_list",
            "specific",
            "model_platform",
            "prometheus_config",
            "enable",
        ):
            continue
        again = before.strip().startswith(setting)
        assert line.strip().startswith("#") or before.strip().startswith("#") or again, f"{name}.config: {line}"


def test_components_add_what_the_base_lacks():
    for name, component in COMPONENTS.items():
        [patch] = component["patches"]
        assert patch["target"] == {"kind": "Deployment", "name": "amen-serving"}, name
        added = {"args": [], "env": []}
        for step in yaml.safe_load(patch["patch"]):
            assert step["op"] == "add" and step["path"].startswith("/spec/template/spec/containers/0/")
            added[step["path"].split("/")[-2]].append(step["value"])
        new = flags(added["args"])
        assert new and not set(new) & set(flags(CONTAINER["args"])), name
        assert not {one["name"] for one in added["env"]} & {one["name"] for one in CONTAINER["env"]}, name
        for value in new.values():
            assert not value.startswith("/config/") or (PRODUCTION / value.lstrip("/")).is_file(), name
