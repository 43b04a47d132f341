"""Command line: python -m serving COMMAND. `--help` names the commands."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import tyro

from serving.errors import ServingError
from serving.fleet.files import FilesSettings, write_gateway_files
from serving.fleet.fleet import FleetSettings, StandAloneSettings, fleet, gateway
from serving.lines import Line, write_line
from serving.monitoring.drift import DriftSettings, drift
from serving.release.backup import BackupSettings, RestoreSettings, backup, restore
from serving.release.compare import CompareSettings, compare
from serving.release.copying import CopySettings, copy
from serving.release.fuse import FuseSettings, fuse
from serving.release.judge import JudgeSettings, judge
from serving.release.lineage import LineageSettings, lineage
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
from serving.server.up import UpSettings, up
from serving.tuning.tune import TuneSettings, tune

# command: (its settings, what runs it)
COMMANDS: dict[str, tuple[type, Callable[[Any], int | None]]] = {
    "up": (UpSettings, up),
    "fleet": (FleetSettings, fleet),
    "gateway": (StandAloneSettings, gateway),
    "gateway-files": (FilesSettings, write_gateway_files),
    "tune": (TuneSettings, tune),
    "publish": (PublishSettings, publish),
    "canary": (CanarySettings, canary),
    "fuse": (FuseSettings, fuse),
    "compare": (CompareSettings, compare),
    "promote": (PromoteSettings, promote),
    "rollback": (RollbackSettings, rollback),
    "judge": (JudgeSettings, judge),
    "releases": (ReleasesSettings, releases),
    "copy": (CopySettings, copy),
    "backup": (BackupSettings, backup),
    "restore": (RestoreSettings, restore),
    "lineage": (LineageSettings, lineage),
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
        told = Line(f"error: {error}", level="error", message=str(error))
        write_line(told, getattr(settings, "log_format", "text"), sys.stderr)
        return error.exit_code
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
