"""What the supervisor is given: how to start a server, for how long, and who is told."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from serving.control import Control
from serving.monitoring.service_metrics import ServiceMetrics
from serving.server.process import TritonProcess
from serving.server.shared_memory import Region
from serving.server.watch import Watch

Report = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What the supervisor starts and how."""

    launch: Callable[[], TritonProcess]
    connect: Callable[[], Control]
    explain: Callable[[], str]  # why the process ended, from its log
    failed: Callable[[], list[str]]  # models that it could not load, from its log
    failed_lately: Callable[[], list[str]]  # the same, since this was asked last
    region: Region
    prepare: Callable[[], None]  # before something is loaded: is the repository there?
    hurry: Callable[[], AbstractContextManager[None]]  # inside, nobody waits long for that
    release: Callable[[], None]  # everything, in the end
    watch: Watch | None  # follows changes of the repository
    metrics: ServiceMetrics
    start_seconds: float
    drain_seconds: float
    probe_seconds: float
