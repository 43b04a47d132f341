"""Command line: python -m serving {up,publish}."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from serving.errors import ServingError
from serving.publish import PublishSettings, publish
from serving.server import ServerSettings
from serving.up import up

DEFAULTS = ServerSettings(
    Path("model_repository"), http_port=8000, grpc_port=8001, metrics_port=8002
)
Up = Annotated[
    ServerSettings,
    tyro.conf.subcommand(
        "up",
        default=DEFAULTS,
        description="Run a real Triton server here, without Docker, until Ctrl-C. "
        "Arguments after -- go to tritonserver as they are.",
    ),
]
Publish = Annotated[
    PublishSettings,
    tyro.conf.subcommand(
        "publish",
        description="Release an artifact as the next version of a model repository, "
        "or make a new repository for it.",
    ),
]


def main(arguments: list[str]) -> int:
    """Run one command. Returns the exit code."""
    own, passed_on = split(arguments)
    settings: ServerSettings | PublishSettings = tyro.cli(
        Up | Publish,
        prog="python -m serving",
        description="Runs a Triton server and releases model versions into its repository.",
        args=own,
    )
    try:
        if isinstance(settings, ServerSettings):
            up(replace(settings, arguments=passed_on))
        else:
            publish(settings)
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def split(arguments: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Cut at the first --: what comes before is ours, what comes after is tritonserver's."""
    if "--" not in arguments:
        return arguments, ()
    cut = arguments.index("--")
    return arguments[:cut], tuple(arguments[cut + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
