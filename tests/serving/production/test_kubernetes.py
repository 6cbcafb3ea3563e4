"""The manifests against Kubernetes' own schemas, and against the files, flags and names that they must agree with."""

import copy
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml

from amen_tf.config import PushSettings
from tests.serving.production.files import (
    COMPONENTS,
    CONTAINER,
    KUBERNETES,
    KUSTOMIZATION,
    POD,
    PRODUCTION,
    flags,
    models_config,
)

# Of every release that has all we use (unhealthyPodEvictionPolicy came with 1.27) the package bundles the schemas.
VERSIONS = [v for v in kubernetes_validate.utils.all_versions() if tuple(map(int, v.split(".")))[:2] >= (1, 27)]
# Flags of tensorflow_model_server 2.19 that a file of ours may use.
KNOWN_FLAGS = {
    "allow_version_labels_for_unavailable_models",
    "batching_parameters_file",
    "enable_batching",
    "enable_model_warmup",
    "enable_per_model_batching_parameters",
    "file_system_poll_wait_seconds",
    "flush_filesystem_caches",
    "load_retry_interval_micros",
    "max_num_load_retries",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "monitoring_config_file",
    "num_load_threads",
    "num_request_iterations_for_warmup",
    "num_unload_threads",
    "per_process_gpu_memory_fraction",
    "port",
    "rest_api_num_threads",
    "rest_api_port",
    "rest_api_timeout_in_ms",
    "tensorflow_inter_op_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_session_config_file",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
}
NAME = "app.kubernetes.io/name"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", sorted(KUBERNETES))
def test_a_manifest_fits_the_schema(name, version):
    kubernetes_validate.validate(KUBERNETES[name], version, strict=True)


def test_the_schemas_find_a_key_that_does_not_exist_and_a_value_of_another_kind():
    for change in ({"replica": 2}, {"replicas": "two"}):
        wrong = copy.deepcopy(KUBERNETES["deployment"])
        wrong["spec"] |= change
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)
    assert len(VERSIONS) >= 5


def test_the_kustomization_takes_every_manifest_and_every_config_once():
    assert sorted(KUSTOMIZATION["resources"]) == sorted(f"kubernetes/{name}.yaml" for name in KUBERNETES)
    listed = [file for generator in KUSTOMIZATION["configMapGenerator"] for file in generator["files"]]
    assert sorted(listed) == sorted(f"config/{path.name}" for path in (PRODUCTION / "config").iterdir())


def test_labels_move_in_running_pods_and_other_settings_roll_them_over():
    kept = {
        generator["name"]: generator.get("options", {}).get("disableNameSuffixHash", False)
        for generator in KUSTOMIZATION["configMapGenerator"]
    }
    assert kept == {"amen-serving-models": True, "amen-serving-server": False}
    [models] = [g for g in KUSTOMIZATION["configMapGenerator"] if g["name"] == "amen-serving-models"]
    assert models["files"] == ["config/models.config"]
    assert int(flags(CONTAINER["args"])["model_config_file_poll_wait_seconds"]) > 0
    assert not any("subPath" in mount for mount in CONTAINER["volumeMounts"]), "such a file is never updated"


def test_every_flag_exists_and_every_file_is_mounted():
    added = [
        operation["value"]
        for component in COMPONENTS.values()
        for operation in yaml.safe_load(component["patches"][0]["patch"])
        if operation["path"].endswith("/args/-")
    ]
    given = flags([*CONTAINER["args"], *added])
    assert set(given) <= KNOWN_FLAGS
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in POD["spec"]["volumes"]}
    assert set(mounts) == set(volumes)
    sources = [source["configMap"]["name"] for source in volumes["config"]["projected"]["sources"]]
    assert sources == [generator["name"] for generator in KUSTOMIZATION["configMapGenerator"]]
    for name, value in given.items():
        if name.endswith("_file"):
            assert (PRODUCTION / "config" / value.removeprefix(f"{mounts['config']}/")).is_file(), name


def test_batching_is_switched_on_with_its_parameters_or_not_at_all():
    # With the file and without the flag the server does not start.
    base = set(flags(CONTAINER["args"]))
    assert not base & {"enable_batching", "batching_parameters_file"}
    added = yaml.safe_load(COMPONENTS["batching"]["patches"][0]["patch"])
    assert set(flags([operation["value"] for operation in added])) == {"enable_batching", "batching_parameters_file"}


def test_every_flag_says_why():
    lines = [line.strip() for line in (PRODUCTION / "kubernetes" / "deployment.yaml").read_text().splitlines()]
    # --model_config_file is what all of this is about; two pairs share their reason.
    own = {
        "model_config_file",
        "monitoring_config_file",
        "tensorflow_session_config_file",
        "tensorflow_inter_op_parallelism",
    }
    for before, line in zip(lines, lines[1:], strict=False):
        if line.startswith("- --") and line.partition("=")[0][4:] not in own:
            assert before.startswith("#"), line


def test_the_volume_is_the_push_folder():
    entry, mounts = models_config(), {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    assert entry.base_path == f"{mounts['models']['mountPath']}/{PushSettings().model_name}"
    assert mounts["models"]["readOnly"]
    claim = next(v for v in POD["spec"]["volumes"] if v["name"] == "models")["persistentVolumeClaim"]["claimName"]
    assert claim == KUBERNETES["models-pvc"]["metadata"]["name"]
    # Pusher writes while pods on other nodes read.
    assert KUBERNETES["models-pvc"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_http_probes_look_at_availability():
    metadata = f"/v1/models/{models_config().name}/labels/stable/metadata"
    for probe in ("startupProbe", "readinessProbe"):
        assert CONTAINER[probe]["httpGet"] == {"path": metadata, "port": "rest"}
    # More would restart every pod for one bad models.config; less would miss a process that hangs.
    assert set(CONTAINER["livenessProbe"]) & {"httpGet", "tcpSocket", "exec", "grpc"} == {"tcpSocket"}
    startup = CONTAINER["startupProbe"]
    # A version that fails is tried again five times, a minute apart, before the server gives up and says why.
    assert startup["periodSeconds"] * startup["failureThreshold"] > 5 * 60
    assert (
        KUBERNETES["deployment"]["spec"]["progressDeadlineSeconds"]
        > startup["periodSeconds"] * startup["failureThreshold"]
    )


def test_selectors_find_the_pods():
    labels = POD["metadata"]["labels"]
    selectors = [
        KUBERNETES["deployment"]["spec"]["selector"]["matchLabels"],
        KUBERNETES["service"]["spec"]["selector"],
        KUBERNETES["pdb"]["spec"]["selector"]["matchLabels"],
        KUBERNETES["network-policy"]["spec"]["podSelector"]["matchLabels"],
        POD["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ]
    assert all(selector == {NAME: labels[NAME]} for selector in selectors)
    target = KUBERNETES["hpa"]["spec"]["scaleTargetRef"]
    deployment = KUBERNETES["deployment"]
    assert target == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    # The autoscaler's number would be overwritten by every apply.
    assert "replicas" not in deployment["spec"]


def test_ports_are_the_same_everywhere():
    # The image's entry point sets them.
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    service = {port["targetPort"]: port["port"] for port in KUBERNETES["service"]["spec"]["ports"]}
    assert service == ports and KUBERNETES["service"]["spec"]["type"] == "ClusterIP"
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(ports["rest"])
    rules = KUBERNETES["network-policy"]["spec"]["ingress"]
    assert [sorted(port["port"] for port in rule["ports"]) for rule in rules] == [[8500, 8501], [8501]]


def test_every_pod_has_one_gpu_and_as_many_threads_as_cores():
    resources, given = CONTAINER["resources"], flags(CONTAINER["args"])
    assert resources["limits"]["nvidia.com/gpu"] == 1
    assert resources["limits"]["memory"] == resources["requests"]["memory"]
    for flag in ("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"):
        assert given[flag] == resources["requests"]["cpu"]
    assert 0.5 <= float(given["per_process_gpu_memory_fraction"]) < 0.95
    assert POD["spec"]["terminationGracePeriodSeconds"] > 15 + int(given["rest_api_timeout_in_ms"]) / 1000


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which builds kustomizations, is not on PATH")
@pytest.mark.parametrize("components", [[], ["components/batching", "components/xla"]])
def test_kubectl_builds_it(components, tmp_path):
    shutil.copytree(PRODUCTION, tmp_path / "production")
    (tmp_path / "production" / "kustomization.yaml").write_text(
        yaml.safe_dump(KUSTOMIZATION | {"components": components})
    )
    built = subprocess.run(["kubectl", "kustomize", tmp_path / "production"], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    objects = {(o["kind"], o["metadata"]["name"]): o for o in yaml.safe_load_all(built.stdout)}
    for manifest in objects.values():
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    text = (PRODUCTION / "config" / "models.config").read_text()
    assert objects["ConfigMap", "amen-serving-models"]["data"] == {"models.config": text}
    pod = objects["Deployment", "amen-serving"]["spec"]["template"]["spec"]
    [hashed] = [name for kind, name in objects if kind == "ConfigMap" and name != "amen-serving-models"]
    assert hashed in [source["configMap"]["name"] for source in pod["volumes"][1]["projected"]["sources"]]
    [container] = pod["containers"]
    assert container["image"] == "tensorflow/serving:" + KUSTOMIZATION["images"][0]["newTag"]
    assert ("enable_batching" in flags(container["args"])) == bool(components)
    assert ("TF_XLA_FLAGS" in [entry["name"] for entry in container["env"]]) == bool(components)
