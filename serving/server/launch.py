"""Becomes the given program, which ends when the thread that started it ends.

`python launch.py PARENT_PID PROGRAM ARGUMENT...`. A program that outlives a killed parent would go
on holding its ports. Linux can send a signal to a child when its parent ends, but the child has to
ask for it itself, between fork and exec; a program of its own does that safely in a process with
many threads, which Python's preexec_fn does not.

What the program makes is for its own user only. A umask alone does not do that: the shared memory
that photos pass through is opened to everyone afterwards (Boost's fchmod to 0644). So the kernel
answers this one call as done without doing it, from the first moment on.
"""

import ctypes
import os
import signal
import struct
import sys

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
FILTER_MODE = 2
FCHMOD = 91  # on x86-64, the only machine that tritonserver comes for
ALLOW, DONE = 0x7FFF0000, 0x00050000  # "done": error number 0
LOAD, UNLESS, RETURN = 0x20, 0x15, 0x06  # of classic BPF: a word, jump, the verdict
NUMBER, MODE = 0, 24  # where a call's number and second argument lie
FILTER = [  # (what, steps if equal, steps if not, operand)
    (LOAD, 0, 0, NUMBER),
    (UNLESS, 0, 3, FCHMOD),
    (LOAD, 0, 0, MODE),
    (UNLESS, 0, 1, 0o644),
    (RETURN, 0, 0, DONE),
    (RETURN, 0, 0, ALLOW),
]


def main(parent: int, program: list[str]) -> None:
    """Ask for SIGKILL at the parent's end, then run the program in this process."""
    system = ctypes.CDLL(None, use_errno=True)
    system.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        sys.exit(1)
    keep_private(system)
    os.execv(program[0], program)


def keep_private(system: ctypes.CDLL) -> None:
    """Let nothing that the program makes be opened to others."""
    os.umask(0o077)
    code = b"".join(struct.pack("HBBI", *line) for line in FILTER)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxQ", len(FILTER), ctypes.addressof(buffer))
    system.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if system.prctl(PR_SET_SECCOMP, FILTER_MODE, program) != 0:
        print("others on this machine can read /dev/shm: seccomp is missing", file=sys.stderr)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
