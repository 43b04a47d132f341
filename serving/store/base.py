"""The one interface to a model repository, wherever it lies: files in a folder, or objects.

Paths are relative to the repository, with slashes: "ssd/3/model.onnx". Whatever becomes visible is
whole. In a folder it is prepared beside the repository, in `.publish-<name>-xxxx`, and renamed. In
an object store one PUT is atomic, and of several objects the one that gives the others a meaning,
config.pbtxt, comes last.

A store that is away or does not answer is given up after PATIENCE seconds at most.
"""

import getpass
import json
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

CONFIG = "config.pbtxt"
SUFFIX = ".pbtxt"
VARIANTS = "configs"  # a model's folder of complete configurations for --model-config-name


class Store(ABC):
    """A model repository.

    Attributes:
        address: where it lies, as the user wrote it.
        triton_address: the same for tritonserver's --model-repository.

    Every method raises StoreError.
    """

    address: str
    triton_address: str

    @abstractmethod
    def files(self, hidden: bool = False) -> dict[str, str]:
        """Every file's path, and a stamp that changes when its content does.

        Python's caches and hidden folders at the top never count; other hidden files, the
        placeholder .keep among them, only when asked for. Empty where there is no repository.
        """

    @abstractmethod
    def read(self, path: str) -> bytes:
        """A file's content.

        Raises:
            MissingFileError: there is none.
        """

    @abstractmethod
    def modified(self, path: str) -> datetime:
        """When a file was written, in UTC.

        Raises:
            MissingFileError: there is none.
        """

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Write or replace one file at once; readers see the old one or the new one."""

    @abstractmethod
    def place(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Make a new folder, which becomes visible when it is whole.

        Args:
            folder: must not exist.
            files: contents by path inside the folder.
        """

    @abstractmethod
    def create(self, source: Path) -> None:
        """Make the whole repository from a local folder.

        In an object store the ensembles' config.pbtxt come last: killed before, it leaves a
        repository without ensembles, and creating it again completes it.
        """

    @abstractmethod
    def remove(self, folder: str) -> None:
        """Remove a folder and what is in it, if it is there."""

    @abstractmethod
    def lock(self, purpose: str) -> AbstractContextManager[None]:
        """Keep others from changing the repository.

        Args:
            purpose: told to others who want the same, for example "publish".

        Raises:
            BusyError: somebody else holds it, with who, for what, and since when.
        """

    @abstractmethod
    def clean(self) -> None:
        """Remove what killed publishers left. The lock must be held."""

    def fetch(self, folder: Path, names: Iterable[str] | None = None) -> None:
        """Copy the repository's files into a local folder.

        Args:
            folder: made if it does not exist.
            names: only these files, or what is in these folders; None for everything.
        """
        wanted = None if names is None else tuple(names)
        for path in self.files(hidden=True):
            if wanted is None or any(is_under(path, name) for name in wanted):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self.read(path))


def is_under(path: str, name: str) -> bool:
    """Whether a path is the named file or lies in the named folder."""
    return path == name or path.startswith(f"{name.rstrip('/')}/")


def is_config(path: str) -> bool:
    """Whether a file is a model's configuration: its config.pbtxt, or a variant of that."""
    match path.split("/"):
        case [_, name]:
            return name == CONFIG
        case [_, folder, name]:
            return folder == VARIANTS and name.endswith(SUFFIX)
    return False


def variant_path(variant: str) -> str:
    """Where a variant lies in a model's folder; the empty one is config.pbtxt."""
    return f"{VARIANTS}/{variant}{SUFFIX}" if variant else CONFIG


def is_in_repository(path: str, hidden: bool) -> bool:
    """Whether a file belongs to the repository."""
    parts = path.split("/")
    if "__pycache__" in parts or parts[0].startswith("."):
        return False
    return hidden or not any(part.startswith(".") for part in parts)


def describe_owner(purpose: str) -> bytes:
    """Who holds a lock, as JSON."""
    owner = {
        "who": user_and_host(),
        "pid": os.getpid(),
        "purpose": purpose,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(owner).encode()


def user_and_host() -> str:
    """Who we are, as user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def describe_busy(address: str, owner: bytes) -> str:
    """Who holds a lock, as a sentence."""
    try:
        found = json.loads(owner)
        told = (
            f"{found['who']} (process {found['pid']}) for {found['purpose']} since {found['since']}"
        )
    except (ValueError, KeyError, TypeError):
        told = "somebody else"
    return f"{address} is being changed by {told}: wait until that is finished, then try again"
