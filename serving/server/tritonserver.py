"""Finds the genuine tritonserver inside the nvidia-pytriton wheel and lays out what it needs.

Only the server of that wheel is used; its Python package is never imported. In: the running
interpreter. Out: a `Wheel`, a backend directory and an environment for the server's process.
"""

import importlib.util
import os
import shutil
import site
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

from serving.errors import PrerequisiteError

BACKENDS = Path(__file__).parents[1] / "backends"  # ours: the onnxruntime backend
CORES = Path(__file__).parents[1] / "cores.py"
STUB_START = Path(__file__).parent / "stub_start.py"
STUB = "triton_python_backend_stub"
# Of the C library, which would give a photo's memory back to the system after each one, and ask
# for new, cleared pages for the next: 0.8 of the 2 ms that preprocess took for 640x480, and 0.15 ms
# of the server. What is larger goes back. The container's are in deploy/docker/triton.Dockerfile.
KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "33554432", "MALLOC_MMAP_THRESHOLD_": "33554432"}
DOCKER = "run it with Docker instead: docker compose up"


@dataclass(frozen=True)
class Wheel:
    """Where the wheel's parts lie."""

    root: Path  # .../pytriton/tritonserver: bin, backends, python_backend_stubs
    libraries: Path  # .../nvidia_pytriton.libs

    @property
    def executable(self) -> Path:
        """The tritonserver program."""
        return self.root / "bin" / "tritonserver"

    def stub(self) -> Path:
        """The program that runs a Python model, built for the running interpreter."""
        return self.root / "python_backend_stubs" / python_version() / STUB


def python_version() -> str:
    """Major and minor version of the running interpreter, for example 3.11."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def find_wheel() -> Wheel:
    """Find the wheel without importing it.

    Raises:
        PrerequisiteError: nvidia-pytriton is not installed here.
    """
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise PrerequisiteError(
            "the package nvidia-pytriton, which carries tritonserver, is not installed in "
            f"{sys.prefix}: python -m pip install -c constraints.txt -e '.[serving]'"
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    return Wheel(package / "tritonserver", package.parent / "nvidia_pytriton.libs")


def libpython() -> Path | None:
    """The shared library of the running interpreter, None where it was built without one."""
    name = f"libpython{python_version()}.so.1.0"
    folders = [Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")]
    folders += [Path(sys.base_prefix) / "lib", Path(sys.base_prefix) / "lib64"]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    folders += [folder / multiarch for folder in folders if multiarch]
    paths = (folder / name for folder in folders)
    return next((path for path in paths if os.access(path, os.R_OK)), None)


def assemble_backends(wheel: Wheel, folder: Path) -> Path:
    """Copy the Python backend, its stub and our onnxruntime backend into `folder`.

    Copies, not links: the server makes the stub executable, and Python must not write its
    caches into an installed package.
    """
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(wheel.root / "backends" / "python", folder / "python", ignore=ignore)
    shutil.copy2(wheel.stub(), folder / "python" / STUB)
    for backend in BACKENDS.iterdir():
        shutil.copytree(backend, folder / backend.name, ignore=ignore)
        shutil.copy2(CORES, folder / backend.name)
    return folder


def make_stub_environment(folder: Path) -> Path:
    """Make the virtual environment that the stubs run in: this interpreter and its packages.

    It differs in what stub_start.py does first. Stubs run isolated, so no environment variable can
    tell them.
    """
    venv.create(folder, symlinks=True)
    packages = folder / "lib" / f"python{python_version()}" / "site-packages"
    shutil.copy2(STUB_START, packages)
    lines = [f"import {STUB_START.stem}"]
    # As bytes, since this file and a stub's file names are ASCII.
    paths = map(os.fsencode, _package_folders())
    lines += [f"import os, site; site.addsitedir(os.fsdecode({path!r}))" for path in paths]
    (packages / "stubs.pth").write_text("\n".join(lines) + "\n")
    return folder


def _package_folders() -> list[str]:
    """Where this interpreter finds installed packages."""
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [path for path in [*user, *site.getsitepackages()] if path in sys.path]


def environment(wheel: Wheel, stub_environment: Path) -> dict[str, str]:
    """The server's environment variables.

    A stub finds its packages through the python3 that PATH names first, and needs the libpython
    of the same build.
    """
    library = libpython()
    paths = [wheel.libraries] + ([library.parent] if library else [])
    inherited = os.environ.get("LD_LIBRARY_PATH", "")
    return (
        KEPT_MEMORY
        | os.environ
        | {
            "PATH": f"{stub_environment / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            "LD_LIBRARY_PATH": ":".join([*map(str, paths), *filter(None, [inherited])]),
        }
    )
