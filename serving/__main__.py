"""Command line: python -m serving COMMAND. `--help` names the commands."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import tyro

from serving.errors import ServingError
from serving.fleet.files import FilesSettings, write_gateway_files
from serving.fleet.fleet import FleetSettings, StandAloneSettings, fleet, gateway
from serving.monitoring.drift import DriftSettings, drift
from serving.release.compare import CompareSettings, compare
from serving.release.listing import ReleasesSettings, releases
from serving.release.promote import (
    PromoteSettings,
    RollbackSettings,
    promote,
    rollback,
)
from serving.release.publish import (
    CanarySettings,
    PublishSettings,
    canary,
    publish,
)
from serving.server.server import ServerSettings
from serving.server.up import up
from serving.tuning.tune import TuneSettings, tune


@dataclass(frozen=True)
class UpSettings(ServerSettings):
    """Run a real Triton server here, without Docker, until Ctrl-C.

    Arguments after -- go to tritonserver as they are.
    """

    repository: str = "model_repository"
    """Model repository: a folder, or an address such as s3://bucket/models."""
    http_port: int = 8000
    """Port of Triton's HTTP protocol; 0 chooses a free one."""
    grpc_port: int = 8001
    """Port of Triton's gRPC protocol; 0 chooses a free one."""
    metrics_port: int = 8002
    """Port of the Prometheus metrics, on 127.0.0.1 always; 0 chooses a free one."""


# command: (its settings, what runs it)
COMMANDS: dict[str, tuple[type, Callable[[Any], int | None]]] = {
    "up": (UpSettings, up),
    "fleet": (FleetSettings, fleet),
    "gateway": (StandAloneSettings, gateway),
    "gateway-files": (FilesSettings, write_gateway_files),
    "tune": (TuneSettings, tune),
    "publish": (PublishSettings, publish),
    "canary": (CanarySettings, canary),
    "compare": (CompareSettings, compare),
    "promote": (PromoteSettings, promote),
    "rollback": (RollbackSettings, rollback),
    "releases": (ReleasesSettings, releases),
    "drift": (DriftSettings, drift),
}


def main(arguments: list[str]) -> int:
    """Run one command. Returns the exit code."""
    own, passed_on = split_arguments(arguments)
    settings: Any = tyro.extras.subcommand_cli_from_dict(
        {name: kind for name, (kind, _) in COMMANDS.items()},
        prog="python -m serving",
        description="Runs a Triton server and releases model versions into its repository.",
        args=own,
    )
    if isinstance(settings, UpSettings):
        settings = replace(settings, arguments=passed_on)
    elif passed_on:
        print("error: only `up` passes arguments after -- to tritonserver", file=sys.stderr)
        return 2
    run = dict(COMMANDS.values())[type(settings)]
    try:
        return run(settings) or 0
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def split_arguments(arguments: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Cut at the first --: what comes before is ours, what comes after is tritonserver's."""
    if "--" not in arguments:
        return arguments, ()
    cut = arguments.index("--")
    return arguments[:cut], tuple(arguments[cut + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
