"""The ensemble as a contestant: the embedded server over a repository with one network."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import ROOT
from benchmarks.contestants.served import Target

GRPC = {"protocol": "grpc", "model": "ensemble", "tensor": "image"}


def ensemble(
    repository: Path, name: str = "ensemble", checkout: Path = ROOT, options: Sequence[str] = ()
) -> Target:
    """The embedded server over gRPC, as `serving up` starts it.

    Args:
        repository: model repository.
        name: in tables.
        checkout: the project's folder whose server it is.
        options: further arguments of `serving up`.
    """
    command = [sys.executable, "-m", "serving", "up", "--repository", str(repository)]
    command += ["--grpc-port", "{port}", "--http-port", "{other}", "--metrics-port", "0", *options]
    if checkout == ROOT:  # an older one has no such port
        command += ["--supervisor-port", "0"]
    return Target(name, command, GRPC, {"PYTHONPATH": str(checkout)}, checkout)


@contextlib.contextmanager
def repository_with(network: Path, source: Path) -> Iterator[Path]:
    """A copy of a model repository whose only network is this file."""
    with tempfile.TemporaryDirectory(prefix="serving-speed-") as name:
        ignore = shutil.ignore_patterns("__pycache__", "model.onnx", "releases.json")
        folder = Path(shutil.copytree(source, Path(name) / "models", ignore=ignore))
        for version in (folder / "ssd").glob("[0-9]*"):
            shutil.rmtree(version)
        (folder / "ssd" / "1").mkdir()
        shutil.copyfile(network, folder / "ssd" / "1" / "model.onnx")
        yield folder


def newest_network(repository: Path) -> Path:
    """The ONNX file that `version_policy latest` serves."""
    versions = [path for path in (repository / "ssd").iterdir() if path.name.isdecimal()]
    return max(versions, key=lambda path: int(path.name)) / "model.onnx"
