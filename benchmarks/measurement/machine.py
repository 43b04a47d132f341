"""What a measurement was made on: processor, cores usable, versions."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from serving.cores import cgroup_cores

FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
PACKAGES = (
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "grpcio",
    "tritonclient",
    "nvidia-pytriton",
)


def describe_machine() -> dict[str, Any]:
    """The machine of the moment, as it is written into every result."""
    info = processor()
    return {
        "processor": info.get("model name", platform.processor()),
        "family, model, stepping": [info.get(k) for k in ("cpu family", "model", "stepping")],
        "flags": flags(info),
        "cores": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "commit": commit(),
        "load_before": round(os.getloadavg()[0], 2),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def usable_cores() -> float:
    """Cores this process may use: its affinity, and its container's quota where there is one."""
    cores = len(os.sched_getaffinity(0))
    return min(cores, cgroup_cores(Path("/sys/fs/cgroup")) or cores)


def processor() -> dict[str, str]:
    """The first processor's entries in /proc/cpuinfo."""
    try:
        block = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def flags(info: dict[str, str]) -> list[str]:
    """What decides how fast a network can be on it."""
    return [flag for flag in FLAGS if flag in info.get("flags", "").split()]


def version(name: str) -> str:
    """Of an installed package, empty if it is not."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def commit() -> str:
    """Of the checkout, with a + if files were changed since; empty where git does not know."""
    try:
        command = ["git", "describe", "--always", "--dirty=+"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
