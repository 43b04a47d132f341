"""docs/clouds.md: its values are the chart's and do something, its commands are right."""

import importlib.metadata
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.conftest import PROJECT
from tests.deploy.kubernetes.conftest import CHART, Helm, Render, find, pod
from tests.deploy.kubernetes.test_chart import RELEASES, commands

PAGE = (PROJECT / "docs" / "clouds.md").read_text()
FILES = dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
VALUES = [name for name in FILES if "apiVersion" not in FILES[name]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files, and the chart where its commands look for it."""
    path = tmp_path_factory.mktemp("clouds")
    for name, text in FILES.items():
        (path / name).write_text(text)
    (path / "deploy").mkdir()
    (path / "deploy" / "kubernetes").symlink_to(CHART)
    return path


def leaves(value: Any) -> list[str]:
    """What stands in nested mappings and lists, and the last keys of mappings, as text."""
    if isinstance(value, dict):
        found = [text for inner in value.values() for text in leaves(inner)]
        return found + [key for key in value if "/" in key]
    if isinstance(value, list):
        return [text for inner in value for text in leaves(inner)]
    return [] if isinstance(value, bool) else [str(value)]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", VALUES)
def test_values_do_something_and_kubernetes_takes_it(
    render: Render, folder: Path, name: str, release: str
) -> None:
    objects = render([folder / name])
    for each in objects:
        kubernetes_validate.validate(each, release, strict=True)
    rendered = leaves(objects)
    for text in leaves(yaml.safe_load(FILES[name])):
        assert any(text in one for one in rendered), text


def test_objects_are_taken() -> None:
    objects = list(yaml.safe_load_all(FILES["volume.yaml"]))
    assert [each["kind"] for each in objects] == ["StorageClass", "PersistentVolumeClaim"]
    for each in objects:
        for release in RELEASES:
            kubernetes_validate.validate(each, release, strict=True)


@pytest.mark.parametrize("command", commands(PAGE.replace("$registry", "r")), ids=" ".join)
def test_commands_that_are_told_are_right(helm: Helm, folder: Path, command: list[str]) -> None:
    command[command.index("install")] = "template"
    done = helm(*command[1:], cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["eks.yaml", "gke.yaml"])
def test_pods_are_who_may_read_the_bucket(render: Render, folder: Path, name: str) -> None:
    objects = render([folder / name])
    assert pod(objects, "ssd-triton")["serviceAccountName"] == "ssd-models"
    assert not [each for each in objects if each["kind"] == "ServiceAccount"]


def test_the_balancer_keeps_to_the_private_network(render: Render, folder: Path) -> None:
    for name in ("eks.yaml", "gke.yaml", "aks.yaml"):
        service = find(render([folder / name]), "Service", "ssd")
        assert service["spec"]["type"] == "LoadBalancer"
        assert {"internal", "Internal", "true"} & set(service["metadata"]["annotations"].values())


def test_a_node_that_is_told_to_end_gives_less_than_draining_takes(render: Render) -> None:
    grace = pod(render(), "ssd-triton")["terminationGracePeriodSeconds"]
    assert f"drains within {grace} s" in PAGE


def test_cores_asked_for(render: Render) -> None:
    for files in (["cpu.yaml"], [], ["s3.yaml", "ha.yaml"]):
        cores = 0.0
        for each in render(files):
            if each["kind"] == "Deployment":
                [one] = each["spec"]["template"]["spec"]["containers"]
                asked = one["resources"]["requests"]["cpu"]
                number = float(asked.removesuffix("m")) / (1000 if asked.endswith("m") else 1)
                cores += each["spec"]["replicas"] * number
        assert f"| {cores:g} |" in PAGE, files


def test_triton_knows_the_role_of_a_service_account_and_no_pod_identity() -> None:
    """What Pod Identity gives a pod, a token in a file, its AWS library does not look for."""
    files = importlib.metadata.files("nvidia-pytriton") or []
    [library] = [file for file in files if file.name.startswith("libtritonserver")]
    code = library.read_binary()
    assert b"AWS_WEB_IDENTITY_TOKEN_FILE\0" in code
    assert b"AWS_CONTAINER_AUTHORIZATION_TOKEN\0" in code
    assert b"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" not in code
    assert b"\x001.11.60\0" in code
    assert "1.11.60" in PAGE
