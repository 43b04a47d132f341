"""`python -m learning COMMAND`: only parses and calls."""

import sys
from collections.abc import Callable
from typing import Any

import tyro

from learning.errors import LearningError
from learning.run import run_round
from learning.settings import RunSettings

# command: (its settings, what runs it)
COMMANDS: dict[str, tuple[type, Callable[[Any], int]]] = {"run": (RunSettings, run_round)}


def main(arguments: list[str]) -> int:
    """Run one command. Returns the exit code."""
    if arguments[:1] not in ([name] for name in COMMANDS):
        print(f"usage: python -m learning {{{','.join(COMMANDS)}}} [--help]", file=sys.stderr)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    name, *rest = arguments
    kind, run = COMMANDS[name]
    try:
        return run(tyro.cli(kind, args=rest, prog=f"python -m learning {name}"))
    except (LearningError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
