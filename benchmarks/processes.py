"""What a server's processes cost: CPU seconds and memory, by role, from /proc.

A server is started with a variable of its own in the environment, which its children inherit: by it
all of them are found, also those that were handed to another parent.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

PROC = Path("/proc")
MARK = "BENCHMARK_MARK"
TICKS = os.sysconf("SC_CLK_TCK")
STUB = "triton_python_backend_stub"
INSTANCE = 8  # position among a stub's arguments


def family(mark: str) -> list[int]:
    """The processes that carry the mark, and their descendants."""
    parents: dict[int, int] = {}
    marked: set[int] = set()
    wanted = f"{MARK}={mark}".encode()
    for path in PROC.iterdir():
        if not path.name.isdecimal():
            continue
        try:
            parents[int(path.name)] = parent(path)
            if wanted in (path / "environ").read_bytes().split(b"\0"):
                marked.add(int(path.name))
        except OSError:  # ended meanwhile
            continue
    return sorted(pid for pid in parents if any(a in marked for a in line_of(pid, parents)))


def line_of(pid: int, parents: Mapping[int, int]) -> Iterable[int]:
    """A process and its ancestors."""
    while pid in parents:
        yield pid
        pid = parents[pid]


def parent(path: Path) -> int:
    """proc(5): the field after the state; the name before it may hold anything but a last ")"."""
    return int((path / "stat").read_text().rpartition(")")[2].split()[1])


def role(pid: int) -> str:
    """A short name: a stub's model, else the program and what Python runs."""
    arguments = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    program = Path(arguments[0].split(" ")[0]).name
    if program == STUB and len(arguments) > INSTANCE:
        return "stub " + arguments[INSTANCE].rsplit("_", 2)[0]
    if program.startswith("python") and "-m" in arguments:
        module, *rest = arguments[arguments.index("-m") + 1 :]
        return f"{module} {rest[0]}" if rest and rest[0].isalpha() else module
    return program


def cpu_seconds(pids: Iterable[int]) -> dict[int, tuple[str, float]]:
    """Role and CPU seconds so far of each process that still runs."""
    found = {}
    for pid in pids:
        try:
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
            found[pid] = (role(pid), (int(fields[11]) + int(fields[12])) / TICKS)
        except OSError:
            continue
    return found


def spent(
    before: Mapping[int, tuple[str, float]], after: Mapping[int, tuple[str, float]]
) -> dict[str, float]:
    """CPU seconds between two looks, by role."""
    total: dict[str, float] = defaultdict(float)
    for pid, (name, seconds) in after.items():
        total[name] += seconds - before.get(pid, ("", 0.0))[1]
    return dict(total)


def memory(pids: Iterable[int]) -> dict[str, dict[str, float]]:
    """Resident and proportional set size in MiB by role, and `processes`, how many have it.

    The proportional size counts a page that n processes share as a n-th for each, so it adds up.
    """
    total: dict[str, dict[str, float]] = {}
    for pid in pids:
        try:
            sizes = rollup(pid)
            entry = total.setdefault(role(pid), {"rss": 0.0, "pss": 0.0, "processes": 0})
        except OSError:
            continue
        entry["rss"] += sizes["Rss"]
        entry["pss"] += sizes["Pss"]
        entry["processes"] += 1
    return total


def rollup(pid: int) -> dict[str, float]:
    """Sizes in MiB by name, of /proc/PID/smaps_rollup."""
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
