"""`python -m learning COMMAND`: only parses and calls."""

import sys
from collections.abc import Callable
from typing import Any

INSTALL = ".venv/bin/pip install -c constraints.txt -e '.[app,learning]'"


def main(arguments: list[str]) -> int:
    """Run one command. Returns the exit code."""
    try:
        import tyro

        from learning.errors import LearningError
        from learning.run import run_round
        from learning.settings import RunSettings
    except ModuleNotFoundError as error:
        print(f"error: learning needs packages of its own ({error}): {INSTALL}", file=sys.stderr)
        return 1
    # command: (its settings, what runs it)
    commands: dict[str, tuple[type, Callable[[Any], int]]] = {"run": (RunSettings, run_round)}
    if arguments[:1] not in ([name] for name in commands):
        print(f"usage: python -m learning {{{','.join(commands)}}} [--help]", file=sys.stderr)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    name, *rest = arguments
    kind, run = commands[name]
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
