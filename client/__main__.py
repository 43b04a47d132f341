"""`python -m client detect PHOTO...`, `... doctor URL` and `... fetch INBOX FOLDER`"""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import tyro

from client.detect.command import run_detect
from client.detect.settings import Detect
from client.doctor.doctor import Doctor, run_doctor
from client.errors import DetectorError, InvalidParameter
from client.inbox.fetch import Fetch, run_fetch

INTERRUPTED, PIPE_CLOSED = 130, 141  # 128 and the signal's number, as a shell counts


def main(args: Sequence[str] | None = None) -> int:
    """Parse the command line, run the command, return the exit code."""
    settings = tyro.extras.subcommand_cli_from_dict(
        {"detect": Detect, "doctor": Doctor, "fetch": Fetch},
        args=args,
        prog="python -m client",
        description="Sends photos to a Triton server that serves the detection ensemble.",
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may be any bytes
    try:
        code = _run(settings)
        sys.stdout.flush()
        return code
    except DetectorError as error:
        print(error, *_notes(error), sep="\n", file=sys.stderr)
        return 2 if isinstance(error, InvalidParameter) else 1
    except KeyboardInterrupt as interrupt:
        for note in _notes(interrupt):
            print(note, file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as head, has gone; nothing more may be flushed into its pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


def _run(settings: Detect | Doctor | Fetch) -> int:
    match settings:
        case Doctor():
            return run_doctor(settings)
        case Fetch():
            return run_fetch(settings)
    return run_detect(settings)


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


if __name__ == "__main__":
    sys.exit(main())
