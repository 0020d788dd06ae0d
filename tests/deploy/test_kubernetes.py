"""The Helm chart, rendered by Helm's own library without a cluster, and what it renders against the schemas of both."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml
from helm_python import Chart, HelmValuesError
from helm_python.chart import lint
from ray.serve.schema import ServeDeploySchema

from plumbline_serve.app import GRPC_SERVICERS
from plumbline_serve.launch.ray_environment import shortage
from plumbline_serve.settings import Settings
from plumbline_serve.settings.groups import GroupSettings
from tests.deploy.files import DEPLOY, ROOT, read, settings_of

CHART = DEPLOY / "kubernetes"
VERSION = "1.34"
"""Of Kubernetes, whose schemas are asked."""
RESOURCES = (("cpu", "CPU"), ("nvidia.com/gpu", "GPU"))
"""As Kubernetes names them, and as Ray does."""
EVERYTHING = {
    "imagePullSecrets": [{"name": "registry"}],
    "cache": {"claim": "weights"},
    "keysSecret": "keys",
    "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}],
    "gcsFaultTolerance": {"redisAddress": "redis:6379", "redisPassword": {"value": "secret"}},
    "autoscaling": False,
}
VALUES = {"cpu": {}, "gpu": read(CHART / "values-gpu.yaml"), "everything": EVERYTHING}


@pytest.fixture(scope="module")
def chart() -> Iterator[Chart]:
    with Chart.load(CHART) as found:
        yield found


@pytest.fixture(scope="module", params=VALUES)
def rendered(request: pytest.FixtureRequest, chart: Chart) -> dict[str, Any]:
    """Documents by kind."""
    values = VALUES[request.param]
    chart.validate_schema(values)
    texts = chart.render(values, name="plumbline", namespace="scoring").values()
    documents = [yaml.safe_load(text) for text in texts if text.strip()]
    return {document["kind"]: document for document in documents if document}


def spec(rendered: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = rendered["RayService"]["spec"]
    return found


def templates(rendered: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the head's pod and of the workers'."""
    cluster = spec(rendered)["rayClusterConfig"]
    return [each["template"] for each in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def settings(rendered: dict[str, Any], folder: Path) -> Settings:
    (application,) = yaml.safe_load(spec(rendered)["serveConfigV2"])["applications"]
    return settings_of(application["args"], folder)


def check_service(document: Any) -> None:
    jsonschema.validate(document, read(Path(__file__).with_name("rayservice_schema.yaml")))


def check_pod(template: Any) -> None:
    pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
    kubernetes_validate.validate(pod, VERSION, strict=True)


def test_helm_finds_nothing_wrong() -> None:
    report = lint(CHART, strict=True)
    assert report["errors"] == []
    assert not [each for each in report["messages"] if each["severity"] > 1]


def test_a_value_that_the_chart_does_not_know_is_refused(chart: Chart) -> None:
    with pytest.raises(HelmValuesError, match="replica"):
        chart.validate_schema({"replica": 3})


def test_what_is_rendered_is_what_kuberay_and_kubernetes_take(rendered: dict[str, Any]) -> None:
    check_service(rendered["RayService"])
    for template in templates(rendered):
        check_pod(template)
    for kind in ("Service", "NetworkPolicy"):
        kubernetes_validate.validate(rendered[kind], VERSION, strict=True)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        pytest.param(("spec", "serveConfig"), "", id="a field of another version"),
        pytest.param(("spec", "rayClusterConfig", "authOptions"), {"mode": "tokens"}, id="a mode that there is not"),
        pytest.param(
            ("spec", "rayClusterConfig", "workerGroupSpecs", 0, "minReplicas"), "two", id="a word for a number"
        ),
    ],
)
def test_what_kuberay_would_not_take_is_found(chart: Chart, place: tuple[Any, ...], value: Any) -> None:
    document = yaml.safe_load(chart.render({}, name="plumbline")["plumbline/templates/rayservice.yaml"])
    target = document
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        check_service(document)


def test_what_kubernetes_would_not_take_is_found(chart: Chart) -> None:
    document = yaml.safe_load(chart.render({}, name="plumbline")["plumbline/templates/rayservice.yaml"])
    template = document["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]
    template["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        check_pod(template)


def test_serve_reads_the_configuration_and_the_real_settings_its_arguments(
    rendered: dict[str, Any], tmp_path: Path
) -> None:
    config = ServeDeploySchema.model_validate(yaml.safe_load(spec(rendered)["serveConfigV2"]))
    assert config.grpc_options.grpc_servicer_functions == list(GRPC_SERVICERS)
    found = settings(rendered, tmp_path)
    assert found.replicas.layout == "split"
    (service,) = [rendered["Service"]]
    assert {each["port"] for each in service["spec"]["ports"]} == {found.port, found.grpc_port}
    assert (config.http_options.port, config.grpc_options.port) == (found.port, found.grpc_port)


def test_the_version_of_ray_is_the_one_that_is_installed(rendered: dict[str, Any]) -> None:
    assert spec(rendered)["rayClusterConfig"]["rayVersion"] == ray.__version__


def test_every_container_has_the_variables_of_a_cluster(rendered: dict[str, Any]) -> None:
    wanted = dict(re.findall(r"^(\w+)=(.+)$", (DEPLOY / "cluster.env").read_text(encoding="utf-8"), re.MULTILINE))
    mode = wanted.pop("RAY_AUTH_MODE")
    assert spec(rendered)["rayClusterConfig"]["authOptions"] == {"mode": mode}
    program = "/opt/plumbline/bin/plumbline-haproxy"  # where the image has it; cluster.env asks the shell
    assert wanted["RAY_SERVE_HAPROXY_BINARY_PATH"] == f"$(command -v {Path(program).name})"
    wanted["RAY_SERVE_HAPROXY_BINARY_PATH"] = program
    for template in templates(rendered):
        (container,) = template["spec"]["containers"]
        given = {each["name"]: each.get("value") for each in container["env"]}
        assert given.items() >= wanted.items()


@pytest.mark.parametrize("number", ["replicas", "maxReplicas"])
def test_all_replicas_have_a_place_beside_the_head(rendered: dict[str, Any], tmp_path: Path, number: str) -> None:
    cluster, found = spec(rendered)["rayClusterConfig"], settings(rendered, tmp_path)
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert found.replicas.gateway_cpus > 0  # or Ray might put one on the head, which answers nobody
    limits = [
        (group[number], group["template"]["spec"]["containers"][0]["resources"]["limits"])
        for group in cluster["workerGroupSpecs"]
    ]
    there = {ray_name: sum(num * float(each.get(name, 0)) for num, each in limits) for name, ray_name in RESOURCES}
    if number == "maxReplicas":
        full = {name: _at_most(group) for name, group in found.groups.items()}
        found = found.model_copy(update={"groups": full})
    assert shortage(found, there) is None


def _at_most(group: GroupSettings) -> GroupSettings:
    """With all the replicas that it may have."""
    assert group.autoscale is not None
    return group.model_copy(update={"autoscale": None, "replicas": group.autoscale.max})


def test_callers_reach_the_workers_alone(rendered: dict[str, Any]) -> None:
    wanted = rendered["Service"]["spec"]["selector"].items()
    head, *workers = templates(rendered)
    assert not wanted <= head["metadata"]["labels"].items()
    assert workers
    for worker in workers:
        assert wanted <= worker["metadata"]["labels"].items()
        (container,) = worker["spec"]["containers"]
        assert {each["targetPort"] for each in rendered["Service"]["spec"]["ports"]} == {
            each["name"] for each in container["ports"]
        }
        probe = Path(container["readinessProbe"]["exec"]["command"][-1])
        assert f"COPY deploy/image/{probe.name} {probe}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_ray_is_closed_to_everybody_but_its_pods_and_the_operator(rendered: dict[str, Any]) -> None:
    policy = rendered["NetworkPolicy"]["spec"]
    open_to_all = [rule for rule in policy["ingress"] if "from" not in rule]
    assert [{each["port"] for each in rule["ports"]} for rule in open_to_all] == [{8000, 9000}]
    for template in templates(rendered):
        assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_a_pod_has_no_rights_and_writes_to_volumes_alone(rendered: dict[str, Any]) -> None:
    uid = re.search(r"useradd --uid (\d+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert uid is not None
    for template in templates(rendered):
        pod = template["spec"]
        assert pod["securityContext"]["runAsUser"] == int(uid[1])
        volumes = {each["name"] for each in pod["volumes"]}
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {each["name"] for each in container["volumeMounts"]} <= volumes


def test_keys_come_from_a_secret_into_a_file_for_their_owner_alone(chart: Chart) -> None:
    document = yaml.safe_load(chart.render(EVERYTHING, name="x")["plumbline/templates/rayservice.yaml"])
    for template in templates({"RayService": document}):
        (container,), (copy,) = template["spec"]["containers"], template["spec"]["initContainers"]
        given = {each["name"]: each.get("value") for each in container["env"]}
        assert copy["command"][-1] == given["PLUMBLINE_AUTH__KEYS_FILE"]
        assert "--mode=0600" in copy["command"]
