"""The chart: Helm finds nothing to object to, and Kubernetes' own schemas take what it makes.

Values that make no sense are refused in words before anything is applied.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.conftest import PROJECT
from tests.deploy.kubernetes.conftest import (
    CHART,
    IMAGES,
    VALUES,
    Helm,
    Objects,
    Render,
    find,
    pod,
)

RELEASES = ("1.30", "1.37")  # the oldest that Chart.yaml takes, and the newest
YAMLLINT = "{extends: default, rules: {line-length: {max: 120}, document-start: disable, "
YAMLLINT += "braces: {max-spaces-inside: 0}, comments: {min-spaces-from-content: 1}}}"

everything = pytest.mark.parametrize("files", VALUES.values(), ids=VALUES)


@everything
def test_helm_finds_nothing_to_object_to(helm: Helm, files: list[str]) -> None:
    options = [f"--values={CHART / file}" for file in files]
    options += [f"--set={key}={value}" for key, value in IMAGES.items()]
    done = helm("lint", "--strict", str(CHART), *options)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("release", RELEASES)
@everything
def test_kubernetes_takes_every_object(render: Render, files: list[str], release: str) -> None:
    for each in render(files):
        try:
            kubernetes_validate.validate(each, release, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            assert "." in each["apiVersion"].partition("/")[0], "no object of Kubernetes' own"


def test_the_validator_knows_a_wrong_field(render: Render) -> None:
    wrong = find(render(), "Deployment", "ssd-triton")
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(wrong, RELEASES[-1], strict=True)


@pytest.mark.parametrize("file", [*CHART.glob("*.yaml")], ids=lambda file: file.name)
def test_values_are_tidy_yaml(file: Path) -> None:
    lint = [sys.executable, "-m", "yamllint", "--strict", "-d", YAMLLINT, str(file)]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("triton.replicas=two", "at '/triton/replicas': got string, want integer"),
        ("triton.replicas=0", "at '/triton/replicas': minimum: got 0, want 1"),
        ("triton.replica=2", "at '/triton': additional properties 'replica' not allowed"),
        ("tritn.replicas=2", "at '': additional properties 'tritn' not allowed"),
        ("triton.sharedMemory=1GB", "at '/triton/sharedMemory': '1GB' does not match pattern"),
        ("triton.arguments={http-port=1}", "at '/triton/arguments/0': 'http-port=1' does not"),
        ("repository.address=bucket/models", "at '/repository/address': 'bucket/models' does not"),
        ("gateway.filesSecret=My_Keys", "at '/gateway/filesSecret': 'My_Keys' does not match"),
        ("triton.image=", "triton.image is not set: build deploy/docker/triton.Dockerfile"),
        ("page.enabled=true,page.image=", "page.image is not set"),
        ("repository.claim=a,repository.address=s3://b/c", "both set: models lie in one place"),
        ("page.apiKeySecret=key", "the gateway knows no keys"),
    ],
)
def test_a_value_that_makes_no_sense_is_told(helm: Helm, value: str, told: str) -> None:
    done = helm("template", "ssd", str(CHART), "--set=triton.image=r/triton:1", "--set", value)
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stdout == ""


def test_a_cluster_that_is_too_old_is_told(helm: Helm) -> None:
    for version, code in (("1.29.9", 1), ("1.30.0", 0), ("1.30.2-gke.1", 0)):
        options = ["--set=triton.image=r/triton:1", f"--kube-version={version}"]
        done = helm("template", "ssd", str(CHART), *options)
        assert done.returncode == code
        assert ("incompatible with Kubernetes v1.29.9" in done.stderr) == bool(code)


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    known = {
        name: set(inner["properties"])
        for name, inner in schema["properties"].items()
        if inner.get("additionalProperties") is False
    }
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert known == {name: set(inner) for name, inner in values.items() if isinstance(inner, dict)}
    assert set(values) == set(schema["properties"]) - {"global"}  # which Helm adds itself
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("place", [{"repository__claim": "a"}, {"repository__address": "s3://b"}])
def test_pods_may_do_little(render: Render, place: dict[str, str]) -> None:
    release = {"release__name": "a", "release__claim": "b", "release__artifact": "c"}
    pods = pods_of(render(page__enabled="true", **release, **place))
    assert len(pods) == 5 + ("repository__address" in place)
    for found in pods:
        assert found["automountServiceAccountToken"] is False
        assert found["securityContext"]["runAsNonRoot"] is True
        assert found["securityContext"]["runAsUser"] == 1000  # what the Dockerfiles say, too
        assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        kinds = {kind for volume in found["volumes"] for kind in volume}
        assert kinds <= {"name", "emptyDir", "secret", "configMap", "persistentVolumeClaim"}
        for one in [*found["containers"], *found.get("initContainers", [])]:
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert one["resources"]["requests"]["cpu"]
            assert one["resources"]["limits"]["memory"]


def pods_of(objects: Objects) -> list[dict[str, Any]]:
    """What each pod is, of whatever makes it."""
    makers = [each["spec"].get("template", each) for each in objects if "spec" in each]
    return [each["spec"] for each in makers if "containers" in each["spec"]]


@everything
def test_no_secret_is_a_variable(render: Render, files: list[str]) -> None:
    secrets = {
        "gateway__filesSecret": "files",
        "page__enabled": "true",
        "page__loginSecret": "login",
        "page__apiKeySecret": "key",
        "repository__credentialsSecret": "bucket",
    }
    objects = render(files, **secrets)
    assert "valueFrom" not in yaml.safe_dump(objects)
    mounted = set()
    for found in pods_of(objects):
        for volume in found["volumes"]:
            if "secret" in volume:
                mounted.add(volume["secret"]["secretName"])
                assert volume["secret"]["defaultMode"] == 0o440  # of the group 1000
    assert mounted == {"triton-admin-key", "files", "login", "key", "bucket"}


def test_what_is_mounted_is_a_volume_and_the_other_way_round(render: Render) -> None:
    objects = render(["cpu.yaml"], repository__claim="models", page__loginSecret="login")
    for name in ("ssd-triton", "ssd-gateway", "ssd-page"):
        found = pod(objects, name)
        [one] = found["containers"]
        volumes = [volume["name"] for volume in found["volumes"]]
        assert sorted(mount["name"] for mount in one["volumeMounts"]) == sorted(volumes)


def test_no_image_comes_from_a_registry_that_nobody_named() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    images = {key: inner["image"] for key, inner in values.items() if "image" in inner}
    compose = yaml.safe_load(
        (PROJECT / "deploy" / "docker" / "compose.gateway.yaml").read_text().replace("!reset", "")
    )
    assert images.pop("gateway") == compose["services"]["gateway"]["image"]
    assert set(images.values()) == {""}


def commands(text: str) -> list[list[str]]:
    """The words of each command line of helm, in a page or in the head of a file."""
    lines = re.sub(r"\\\n#? *", "", text).splitlines()
    told = [line.lstrip("# ") for line in lines if re.match(r"#? *helm .*deploy/kubernetes", line)]
    return [shlex.split(line, comments=True) for line in told]


@pytest.mark.parametrize(
    "file", [PROJECT / "docs" / "kubernetes.md", *CHART.glob("*.yaml")], ids=lambda file: file.name
)
def test_commands_that_are_told_are_right(helm: Helm, file: Path) -> None:
    told = commands(file.read_text().replace("$registry", "r"))
    assert told or file.name in ("Chart.yaml", "values.yaml", "prometheus-adapter.yaml")
    for program, *words in told:
        assert program == "helm"
        verb = next(word for word in words if word in ("install", "upgrade"))
        words[words.index(verb)] = "template"
        before = {}
        if "--reset-then-reuse-values" in words:
            words.remove("--reset-then-reuse-values")
            before = IMAGES | {"repository.claim": "models"}
        elif words[-2:] == ["--set", "..."]:
            words[-2:] = []
            before = IMAGES
        words += [f"--set={key}={value}" for key, value in before.items()]
        done = helm(*words, cwd=PROJECT)
        assert done.returncode == 0, f"{words}: {done.stderr}"


@everything
def test_a_node_may_be_emptied(render: Render, files: list[str]) -> None:
    objects = render(files)
    for name in ("ssd-triton", "ssd-gateway"):
        budget = find(objects, "PodDisruptionBudget", name)["spec"]
        deployment = find(objects, "Deployment", name)["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == deployment["selector"]
        labels = deployment["template"]["metadata"]["labels"]
        assert budget["selector"]["matchLabels"].items() <= labels.items()


def test_high_availability_wants_other_nodes_and_zones(render: Render) -> None:
    objects = render(VALUES["ha"])
    for name in ("ssd-triton", "ssd-gateway"):
        spread = pod(objects, name)["topologySpreadConstraints"]
        over = [each["topologyKey"] for each in spread]
        assert over == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        assert {each["whenUnsatisfiable"] for each in spread} == {"DoNotSchedule"}
        assert {each["nodeTaintsPolicy"] for each in spread} == {"Honor"}  # dead ones do not count
        assert find(objects, "Deployment", name)["spec"]["replicas"] == 3
