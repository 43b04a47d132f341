"""The clock that locks in buckets go by."""

import time


def boot_time() -> float:
    """Seconds that pass while the machine sleeps, too, where the system counts those."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
