"""What is made for other projects' controllers, against the schemas that they publish."""

import copy
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.conftest import PROJECT
from tests.deploy.kubernetes.conftest import Helm, Render

KSERVE = PROJECT / "deploy" / "kserve" / "detector.yaml"
TRAINING = PROJECT / "deploy" / "training" / "trainjob.yaml"
GROUPS = (
    "keda.sh/v1alpha1",
    "monitoring.coreos.com/v1",
    "argoproj.io/v1alpha1",
    "gateway.networking.k8s.io/v1",
)
THERE = [f"--api-versions={group}" for group in GROUPS]
ALL: dict[str, str] = {
    "autoscaling__enabled": "true",
    "autoscaling__kind": "keda",
    "monitoring__enabled": "true",
    "monitoring__labels__release": "prometheus",
    "analysis__enabled": "true",
    "grpcRoute__enabled": "true",
    "grpcRoute__parent__name": "front",
    "grpcRoute__parent__namespace": "gateways",
    "grpcRoute__hostnames": "{detect.example}",
}

Validate = Callable[[dict[str, Any]], None]


def make_strict(schema: Any) -> Any:
    """The same, taking no field that it does not name, in the words of JSON's own schemas."""
    if isinstance(schema, list):
        return [make_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: make_strict(inner) for key, inner in schema.items()}
    if made.pop("x-kubernetes-int-or-string", False):
        made.pop("type", None)
        made["type"] = ["integer", "string"]
    if isinstance(made.get("pattern"), str):  # Go's: Python wants its flags first
        made["pattern"] = made["pattern"].replace("^(?i)", "(?i)^")
    names = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if names and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@pytest.fixture(scope="module")
def validate(test_data: Path) -> Validate:
    """Raise where an object is not as its project's schema says."""

    @cache
    def find_validator(name: str, kind: str) -> jsonschema.Draft202012Validator:
        files = (test_data / "crds").glob("*.yaml")
        [file] = [path for path in files if kind.lower() in path.name.replace("-", "")]
        definition = yaml.load(file.read_text(), yaml.CSafeLoader)["spec"]
        versions = {f"{definition['group']}/{one['name']}": one for one in definition["versions"]}
        schema = make_strict(versions[name]["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"type": "object"}
        return jsonschema.Draft202012Validator(schema)

    return lambda each: find_validator(each["apiVersion"], each["kind"]).validate(each)


@pytest.fixture
def custom(render: Render) -> list[dict[str, Any]]:
    return [each for each in render(options=THERE, **ALL) if each["apiVersion"] in GROUPS]


def kserve() -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(KSERVE.read_text())


def test_their_own_schemas_take_them(custom: list[dict[str, Any]], validate: Validate) -> None:
    kinds = {each["kind"] for each in custom}
    assert kinds >= {"ScaledObject", "ServiceMonitor", "PrometheusRule", "GRPCRoute"}
    assert "AnalysisTemplate" in kinds
    for each in [*custom, *kserve()]:
        validate(each)


def test_kubeflows_own_schema_takes_the_training(validate: Validate) -> None:
    """The TrainJob; for the runtime that it names no schema is at hand."""
    _, job = yaml.safe_load_all(TRAINING.read_text())
    validate(job)
    job["spec"]["trainer"]["numNode"] = 2
    with pytest.raises(jsonschema.ValidationError, match="numNode"):
        validate(job)


def test_the_rules_of_prometheus_are_those_that_are_tested(custom: list[dict[str, Any]]) -> None:
    made = {
        each["metadata"]["name"]: each["spec"]
        for each in custom
        if each["kind"] == "PrometheusRule"
    }
    shipped = (PROJECT / "deploy" / "monitoring" / "rules").glob("*.yml")
    assert made == {f"ssd-{file.stem}": yaml.safe_load(file.read_text()) for file in shipped}
    assert len(made) > 2


def test_a_wrong_field_is_found(custom: list[dict[str, Any]], validate: Validate) -> None:
    for each in custom:
        wrong = copy.deepcopy(each)
        wrong["spec"]["tragetRef"] = {}
        with pytest.raises(jsonschema.ValidationError, match="tragetRef"):
            validate(wrong)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("monitoring.enabled=true", "monitoring.enabled needs the Prometheus operator"),
        ("analysis.enabled=true", "analysis.enabled needs Argo Rollouts"),
        ("grpcRoute.enabled=true,grpcRoute.parent.name=a", "needs a controller of the Gateway API"),
        ("autoscaling.enabled=true,autoscaling.kind=keda", "autoscaling.kind=keda needs KEDA"),
        ("grpcRoute.enabled=true", "grpcRoute.parent.name is not set"),
        ("autoscaling.enabled=true,autoscaling.minReplicas=11", "minReplicas is 11, more than"),
    ],
)
def test_a_cluster_without_them_is_told(helm: Helm, value: str, told: str) -> None:
    chart = str(PROJECT / "deploy" / "kubernetes")
    done = helm("template", "ssd", chart, "--set=triton.image=r/triton:1", "--set", value)
    assert done.returncode == 1
    assert told in done.stderr


def test_kserve_starts_what_the_chart_starts(render: Render) -> None:
    runtime, service = kserve()
    [one] = runtime["spec"]["containers"]
    [ours] = [
        each["spec"]["template"]["spec"]["containers"][0]
        for each in render()
        if each["kind"] == "Deployment" and each["metadata"]["name"] == "ssd-triton"
    ]
    for key in (
        "args",
        "startupProbe",
        "readinessProbe",
        "livenessProbe",
        "lifecycle",
        "resources",
    ):
        assert one[key] == ours[key], key
    assert one["volumeMounts"] == ours["volumeMounts"]
    assert service["spec"]["predictor"]["model"]["runtime"] == runtime["metadata"]["name"]


def test_no_route_of_the_gateway_api_leads_to_what_loads_models(
    custom: list[dict[str, Any]],
) -> None:
    [route] = [each for each in custom if each["kind"] == "GRPCRoute"]
    [rule] = route["spec"]["rules"]
    methods = {match["method"]["method"] for match in rule["matches"]}
    assert all(match["method"]["service"] for match in rule["matches"])
    assert methods >= {"ModelInfer", "ServerReady", "Check"}
    assert not {name for name in methods if "Repository" in name or "Shared" in name}
    assert not methods & {"TraceSetting", "LogSettings", "ModelStreamInfer"}
