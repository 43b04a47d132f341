"""What must hold before tritonserver can start. Each failure is one sentence with its remedy."""

import errno
import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from serving import lines
from serving.errors import PrerequisiteError
from serving.model_config import list_variants
from serving.server import shared_memory
from serving.server.tritonserver import (
    DOCKER,
    Wheel,
    find_wheel,
    libpython,
    python_version,
)

GLIBC_NEEDED = (2, 35)
NUMPY_BELOW = 2
SHARED_MEMORY_NEEDED = 128  # MiB free: a batch of 8 photos of 10 MiB takes 107, fresh stubs 4
MODEL_NAME = re.compile(r"[A-Za-z0-9_.-]+")
ADMIN_KEY = re.compile(r"[A-Za-z0-9_.-]{16,}")  # the same in deploy/docker/serve.sh


def check_machine() -> Wheel:
    """Check all that does not depend on the settings.

    Returns:
        The wheel that carries tritonserver.

    Raises:
        PrerequisiteError: the first thing that is missing.
    """
    check_platform(platform.system(), platform.machine())
    check_glibc(_libc_version())
    wheel = find_wheel()
    check_stub(wheel)
    check_libpython()
    check_numpy()
    check_shared_memory(shared_memory.FOLDER)
    return wheel


def check_platform(system: str, machine: str) -> None:
    """Linux on x86-64: the wheel holds nothing else."""
    if (system, machine) != ("Linux", "x86_64"):
        raise PrerequisiteError(
            f"the embedded server needs Linux on x86_64, this is {system} on {machine}: {DOCKER}"
        )


def _libc_version() -> tuple[int, int] | None:
    """The C library's version if it is glibc."""
    try:
        name, number = os.confstr("CS_GNU_LIBC_VERSION").split()  # type: ignore[union-attr]
        major, minor = number.split(".")[:2]
    except (ValueError, AttributeError, OSError):
        return None
    return (int(major), int(minor)) if name == "glibc" else None


def check_glibc(found: tuple[int, int] | None) -> None:
    """glibc 2.35 or newer: Debian 12, Ubuntu 22.04."""
    if found is None or found < GLIBC_NEEDED:
        has = f"glibc {found[0]}.{found[1]}" if found else "another C library"
        raise PrerequisiteError(
            f"tritonserver needs glibc 2.35 or newer (Debian 12, Ubuntu 22.04), this system has "
            f"{has}: {DOCKER}"
        )


def check_stub(wheel: Wheel) -> None:
    """The wheel has a stub for this Python, one that numpy below 2 exists for."""
    if python_version() not in ("3.11", "3.12") or not wheel.stub().is_file():
        raise PrerequisiteError(
            f"the embedded server runs under Python 3.11 or 3.12, this is {python_version()} "
            f"({sys.executable}): make the environment with one of those, or {DOCKER}"
        )


def check_libpython() -> None:
    """The stub is linked against the interpreter's shared library."""
    if libpython() is not None:
        return
    name = f"libpython{python_version()}"
    if sys.base_prefix == "/usr":
        remedy = f"install it (Debian and Ubuntu: apt-get install {name})"
    else:
        remedy = (
            f"rebuild it with --enable-shared, or make the environment with the distribution's "
            f"Python (Debian and Ubuntu: apt-get install python3-venv {name})"
        )
    raise PrerequisiteError(
        f"{name}.so.1.0, which Python models need, does not come with {sys.base_prefix}: "
        f"{remedy}, or {DOCKER}"
    )


def check_numpy() -> None:
    """The stub was built against numpy 1; with 2 text tensors arrive as garbage."""
    remedy = "python -m pip install -c constraints.txt numpy"
    try:
        found = version("numpy")
    except PackageNotFoundError:
        raise PrerequisiteError(f"numpy is not installed in {sys.prefix}: {remedy}") from None
    if int(found.split(".")[0]) >= NUMPY_BELOW:
        raise PrerequisiteError(f"Python models need numpy below 2, found {found}: {remedy}")


def check_shared_memory(folder: Path) -> None:
    """Python models exchange tensors through shared memory."""
    free = shutil.disk_usage(folder).free // 2**20 if folder.is_dir() else 0
    if free < SHARED_MEMORY_NEEDED:
        raise PrerequisiteError(
            f"{folder} has {free} MiB free, Python models need {SHARED_MEMORY_NEEDED}: enlarge it "
            f"(mount -o remount,size=1G {folder}; in a container: --shm-size=1g)"
        )


def choose_models(
    address: str, files: Collection[str], report: Callable[[str], None] = lambda line: None
) -> list[str]:
    """The models to load: those that are whole.

    One that is not, because somebody is copying it or was killed doing so, would keep the whole
    server from starting.

    Args:
        address: of the repository, for messages.
        files: its files' paths, hidden ones included.
        report: takes a line for each one that is left out.

    Raises:
        PrerequisiteError: there is none.
    """
    folders = sorted({path.split("/")[0] for path in files if "/" in path})
    lacks = {folder: lack for folder in folders if (lack := _what_lacks(folder, files))}
    if len(lacks) == len(folders):
        raise PrerequisiteError(_describe_lack(address, files, lacks))
    for folder, lack in lacks.items():
        report(lines.warning(f"{folder} is left out, it has no {lack}"))
    return [folder for folder in folders if folder not in lacks]


def _what_lacks(model: str, files: Iterable[str]) -> str:
    """What a model's folder lacks to be whole, empty for nothing."""
    if not MODEL_NAME.fullmatch(model):  # a shell and a stub read it; see shared_memory.PLAIN
        return "name of letters, digits, dots, dashes and underscores"
    inside = [path.split("/")[1:] for path in files if path.startswith(f"{model}/")]
    if ["config.pbtxt"] not in inside:
        return "config.pbtxt"
    if not any(len(path) > 1 and path[0].isdecimal() for path in inside):
        return "version folder with a file (an ensemble's may be empty but for a file .keep)"
    return ""


def _describe_lack(address: str, files: Collection[str], lacks: Mapping[str, str]) -> str:
    """Why there is nothing to load, as a sentence."""
    if not files:
        return f"model repository {address} does not exist: name one with --repository"
    if not lacks:
        found = ", ".join(sorted(files)[:4])
        return (
            f"{address} is not a model repository: expected folders with a config.pbtxt, found "
            f"{found}: name one with --repository"
        )
    name, lack = next(iter(lacks.items()))
    return f"{address} has no whole model: {name} has no {lack}"


def check_variant(address: str, files: Iterable[str], name: str) -> None:
    """Triton takes a variant that no model has for config.pbtxt, in silence."""
    found = list_variants(files)
    if name and name not in found:
        there = ", ".join(f"{each} (of {', '.join(found[each])})" for each in sorted(found))
        raise PrerequisiteError(
            f"{address} has no variant {name!r}: no model has configs/{name}.pbtxt, there is "
            f"{there or 'no variant at all; `python -m serving tune` makes one'}"
        )


def check_admin_key(key: str) -> None:
    """Triton takes the key on its command line, where commas and spaces would break it."""
    if not ADMIN_KEY.fullmatch(key):
        raise PrerequisiteError(
            "the admin key must be 16 or more letters, digits, dots, dashes or underscores: make "
            "one with openssl rand -hex 32"
        )


def choose_ports(wanted: Mapping[str, tuple[str, int]]) -> dict[str, int]:
    """Check that each address and port is free to listen on; for port 0 choose a free one.

    Args:
        wanted: (address, port) by option name, for example {"--http-port": ("127.0.0.1", 8000)}.

    Returns:
        The ports by option name.

    Raises:
        PrerequisiteError: a port is taken, or two options name the same one.
    """
    sockets: list[socket.socket] = []
    try:
        return {option: _listen(option, *place, sockets) for option, place in wanted.items()}
    finally:
        _close_all(sockets)


def _listen(option: str, address: str, port: int, held: list[socket.socket]) -> int:
    """Bind for a moment to see that it is possible; `held` keeps the socket until all are."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    held.append(socket.socket(family, socket.SOCK_STREAM))
    held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held[-1].bind((address, port))
        held[-1].listen()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a port number"
        ours = getattr(error, "errno", None) != errno.EADDRNOTAVAIL
        remedy = f"stop what listens there or give another {option}"
        raise PrerequisiteError(
            f"{option} {port} cannot be used on {address} ({reason}): "
            f"{remedy if ours else 'give an address of this machine, or 0.0.0.0 for all'}"
        ) from None
    return int(held[-1].getsockname()[1])


def _close_all(sockets: Iterable[socket.socket]) -> None:
    """Close every socket."""
    for each in sockets:
        each.close()
