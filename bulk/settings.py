"""What the command can be told."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from bulk.errors import UsageError
from client.detect.settings import SERVERS_DEFAULT, Optional01
from client.errors import DetectorError
from client.local.model_folder import find_models
from client.tensors import Parameters
from client.transports.security_options import SecurityOptions


@dataclass(frozen=True)
class Bulk:
    """Detect objects in all photos of a folder or bucket, and write Parquet.

    - On all cores: python -m bulk photos/ --output found/ --local model_repository
    - After that was interrupted: the same again
    - On a cluster of Dask: the same with --cluster tcp://HOST:8786

    Exit code: 0 all photos fine, 1 a photo or part failed, 2 wrong usage.
    """

    photos: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTOS")]
    """A folder, searched with its subfolders, or an address such as s3://bucket/prefix."""

    output: Annotated[str, tyro.conf.arg(metavar="PLACE")]
    """A folder or an address, for the Parquet."""

    local: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: ask the server)"),
    ] = None
    """The model repository or artifact that each worker runs, instead of --url."""

    url: Annotated[str, tyro.conf.arg(metavar="HOST:PORT")] = "127.0.0.1:8001"
    """Address of a server or gateway, as `client detect` takes it; several by commas."""

    model: str = "ensemble"
    """Name of the ensemble."""

    version: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the one served)")
    ] = None
    """The network's version in the repository of --local."""

    score_threshold: Optional01 = None
    """Leave out detections with a lower score."""

    iou_threshold: Optional01 = None
    """Of two boxes of one class that overlap more, keep only the better one."""

    max_detections: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=SERVERS_DEFAULT)
    ] = None
    """Detections per photo at most."""

    part: int = 1000
    """Photos of one Parquet file: what is done anew after a worker is lost."""

    workers: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: one a core)")] = 0
    """Processes on this machine."""

    concurrency: int = 4
    """Photos under way at once in a worker: while some are read, another is computed."""

    timeout: float = 30.0
    """Seconds that one photo may take at a server."""

    cluster: Annotated[
        str | None,
        tyro.conf.arg(metavar="ADDRESS", help_behavior_hint="(default: this machine)"),
    ] = None
    """A Dask scheduler whose workers detect, such as tcp://host:8786."""

    security: Annotated[SecurityOptions, tyro.conf.OmitArgPrefixes] = field(
        default_factory=SecurityOptions
    )

    def check(self) -> None:
        """Look for settings that make no sense.

        Raises:
            UsageError: a number is out of its range, or two settings do not go together.
        """
        for name, least in (("part", 1), ("concurrency", 1), ("workers", 0), ("max_detections", 1)):
            if (value := getattr(self, name)) is not None and value < least:
                raise UsageError(f"{_option(name)} must be {least} or more, found {value}")
        for name in ("score_threshold", "iou_threshold"):
            if (value := getattr(self, name)) is not None and not 0 <= value <= 1:
                raise UsageError(f"{_option(name)} must be from 0 to 1, found {value}")
        if self.workers and self.cluster:
            raise UsageError("--workers is of this machine: a cluster has those that it has")
        if self.version is not None and self.local is None:
            raise UsageError("--version is of --local: a server has the versions that it serves")

    def parameters(self) -> Parameters:
        """The three of `Detector.detect`."""
        return {
            "score_threshold": self.score_threshold,
            "iou_threshold": self.iou_threshold,
            "max_detections": self.max_detections,
        }

    def decisive(self, photos: str, network: "Network | None") -> dict[str, Any]:
        """The settings that results depend on: a run goes on with the same.

        Args:
            photos: the place's address.
            network: of `local`.
        """
        return {
            "photos": photos,
            "part": self.part,
            "model": self.model,
            "network": str(network) if network else None,
            **self.parameters(),
        }


@dataclass(frozen=True)
class Network:
    """The network that workers run themselves.

    Attributes:
        number: its version in a repository; None: of an artifact, or a fusion of several.
        sha256: of its file, or of several, one after the other.
    """

    number: int | None
    sha256: str

    @property
    def version(self) -> str:
        """What to call it: its number, or else the begin of its digest."""
        return str(self.number or self.sha256[:12])

    def __str__(self) -> str:
        return f"{self.number or 'without a number'}, sha256 {self.sha256[:12]}"


def find_network(folder: Path, model: str, version: int | None) -> Network:
    """Return an artifact's network, or a repository's; None: the version that it serves.

    Raises:
        InvalidParameter, DetectorError: as `LocalDetector` does.
    """
    models = find_models(folder, model, version)
    digest = hashlib.sha256()
    for file in (models.network, *models.further):
        digest.update(_read_network(file))
    number = models.network.parent.name
    numbered = number.isdecimal() and not models.further
    return Network(int(number) if numbered else None, digest.hexdigest())


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _read_network(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DetectorError(f"{file}: {error.strerror}: the network is expected there") from None
