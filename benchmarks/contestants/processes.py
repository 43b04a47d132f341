"""What a server's processes cost: CPU seconds and memory, by role.

A server is started with a variable of its own in the environment, which its children inherit: by it
all of them are found, also those that were handed to another parent.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from serving.server.process import read_stub

MARK = "BENCHMARK_MARK"
MIB = 2**20


def family(mark: str) -> set[psutil.Process]:
    """The processes that carry the mark, and their descendants."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter(["environ"]):
        if process not in found and (process.info["environ"] or {}).get(MARK) == mark:
            with contextlib.suppress(psutil.NoSuchProcess):
                found |= {process, *process.children(recursive=True)}
    return found


def role(process: psutil.Process) -> str:
    """A short name: a stub's model, else the program and what Python runs."""
    if stub := read_stub(process.pid):
        return "stub " + stub.instance.rsplit("_", 2)[0]
    arguments = process.cmdline()
    program = Path(arguments[0].split(" ")[0]).name if arguments else process.name()
    if program.startswith("python") and "-m" in arguments:
        module, *rest = arguments[arguments.index("-m") + 1 :]
        return f"{module} {rest[0]}" if rest and rest[0].isalpha() else module
    return program


def cpu_seconds(processes: Iterable[psutil.Process]) -> dict[int, tuple[str, float]]:
    """Role and CPU seconds so far of each process that still runs, by its id."""
    found = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            found[process.pid] = (role(process), times.user + times.system)
    return found


def spent(
    before: Mapping[int, tuple[str, float]], after: Mapping[int, tuple[str, float]]
) -> dict[str, float]:
    """CPU seconds between two looks, by role."""
    total: dict[str, float] = defaultdict(float)
    for pid, (name, seconds) in after.items():
        total[name] += seconds - before.get(pid, ("", 0.0))[1]
    return dict(total)


def memory(processes: Iterable[psutil.Process]) -> dict[str, dict[str, float]]:
    """Resident and proportional set size in MiB by role, and `processes`, how many have it.

    The proportional size counts a page that n processes share as a n-th for each, so it adds up.
    """
    total: dict[str, dict[str, float]] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            sizes = process.memory_full_info()
            entry = total.setdefault(role(process), {"rss": 0.0, "pss": 0.0, "processes": 0})
            entry["rss"] += sizes.rss / MIB
            entry["pss"] += sizes.pss / MIB
            entry["processes"] += 1
    return total
