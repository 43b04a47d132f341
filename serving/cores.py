"""How many cores this process may really use, in a container too. Backends get a copy of this."""

import os
from pathlib import Path


def usable_cores() -> int:
    """Cores this process may use: its affinity, and its container's quota where there is one."""
    cores = len(os.sched_getaffinity(0))
    quota = cgroup_cores(Path("/sys/fs/cgroup"))
    return max(1, min(cores, int(quota))) if quota else cores


def cgroup_cores(root: Path) -> float | None:
    """The CPU quota of the control group in cores (versions 2 and 1), None without one."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if quota.strip() not in ("max", "-1") else None
    except (OSError, ValueError):
        return None
