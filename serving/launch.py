"""Becomes the given program, which ends when the thread that started it ends.

`python launch.py PARENT_PID PROGRAM ARGUMENT...`. A program that outlives a killed parent would go
on holding its ports. Linux can send a signal to a child when its parent ends, but the child has to
ask for it itself, between fork and exec; a program of its own does that safely in a process with
many threads, which Python's preexec_fn does not.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, program: list[str]) -> None:
    """Ask for SIGKILL at the parent's end, then run the program in this process."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        sys.exit(1)
    os.execv(program[0], program)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
