"""`python -m bulk PHOTOS --output PLACE`: only parses and calls."""

import sys
from collections.abc import Sequence

INSTALL = "pip install -c constraints.txt -e '.[bulk]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, run the command, return the exit code."""
    try:
        import tyro

        from bulk.errors import BulkError
        from bulk.run import run_bulk
        from bulk.settings import Bulk
        from client.errors import DetectorError, InvalidParameter
        from serving.errors import ServingError
    except ImportError as error:
        print(f"bulk work needs packages of its own ({error}): {INSTALL}", file=sys.stderr)
        return 1
    settings = tyro.cli(
        Bulk, args=arguments, prog="python -m bulk", config=(tyro.conf.FlagCreatePairsOff,)
    )
    try:
        return run_bulk(settings)
    except (BulkError, DetectorError, ServingError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, InvalidParameter) else getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
