"""What only `serving up` knows, as Prometheus metrics.

Every counter is there with 0 from the start, or from when its model is known, so that Prometheus'
increase() sees its first step. docs/monitoring.md says what each is good for.
"""

import time
from collections.abc import Callable, Collection, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from serving.errors import PrerequisiteError
from serving.monitoring.metrics_port import MetricsPort
from serving.repository import State
from serving.served import Loaded

SERVER_REASONS = ("exited", "signal", "stopped", "silent", "load", "start")
STUB_REASONS = ("died", "stopped", "hung")
EVENTS = ("live", "back", "canary", "canary_ended", "failed")

disable_created_metrics()  # a second series for each counter, which nobody asks for


class ServiceMetrics:
    """The metrics of one server, in a registry of their own. Threads may share it.

    Args:
        repository: its address.
    """

    def __init__(self, repository: str) -> None:
        self._repository = repository
        self._ensembles: set[str] = set()  # that have a series of probes
        self._states: dict[tuple[str, str], State] = {}  # at the last probe
        self._port: MetricsPort | None = None
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        ensemble, model = "ensemble", ("ensemble", "model")
        self._success = gauge("ssd_probe_success", "Whether the last probe succeeded.", ensemble)
        self._seconds = Histogram(
            "ssd_probe_seconds", "Time of a probe's inference.", [ensemble], registry=registry
        )
        self._probed = gauge("ssd_last_probe_timestamp_seconds", "When the last probe ended.")
        self._restarts = Counter(
            "ssd_restarts",
            "Processes that were replaced, by what had happened to them.",
            ["part", "model", "reason"],
            registry=registry,
        )
        self._live = gauge("ssd_live_version", "The network's live version.", *model)
        self._since = gauge(
            "ssd_live_since_timestamp_seconds",
            "Since when it is known to be live: its release, or the start of `serving up`.",
            *model,
        )
        self._canary = gauge("ssd_canary_version", "The version on trial, 0 for none.", *model)
        self._share = gauge("ssd_canary_share", "The canary's share of the keys, 0 to 1.", *model)
        self._events = Counter(
            "ssd_release_events", "Changes of what is served.", ["event"], registry=registry
        )
        self._store = gauge("ssd_store_reachable", "Whether the model repository can be read.")
        self._started = gauge(
            "ssd_server_start_time_seconds", "When the tritonserver of the moment was started."
        )
        self._info = Info("ssd_service", "What serves, and from where.", registry=registry)
        for reason in SERVER_REASONS:
            self._restarts.labels("server", "", reason)
        for event in EVENTS:
            self._events.labels(event)

    def text(self) -> str:
        """All of them, in Prometheus' text format."""
        return generate_latest(self._registry).decode()

    def live_versions(self) -> dict[str, int]:
        """The live version of each ensemble, at the last probe."""
        return {ensemble: state.live for (ensemble, _), state in self._states.items()}

    def open_port(self, address: str, port: int) -> None:
        """Let them be read by HTTP, until `close_port`.

        Raises:
            PrerequisiteError: somebody has taken the port in the meantime.
        """
        try:
            self._port = MetricsPort(address, port, self._registry)
        except OSError as error:
            raise PrerequisiteError(
                f"--supervisor-port {port} cannot be used on {address} ({error.strerror}): stop "
                "what listens there or give another --supervisor-port"
            ) from None

    def close_port(self) -> None:
        """Answer no more."""
        if self._port:
            self._port.close()

    def ask_store(self, is_away: Callable[[], bool]) -> None:
        """Whenever they are read: whether the repository is away."""
        self._store.set_function(lambda: not is_away())

    def note_start(self) -> None:
        """A tritonserver was started."""
        self._started.set_to_current_time()

    def note_restart(self, part: str, model: str, reason: str) -> None:
        """A process is replaced.

        Args:
            part: "server" or "stub".
            model: that the stub runs; "" for the server.
            reason: of SERVER_REASONS or STUB_REASONS.
        """
        self._restarts.labels(part, model, reason).inc()
        if part == "server":
            for ensemble in self._ensembles:
                self._success.labels(ensemble).set(0)

    def note_probe(
        self, loaded: Loaded | None, seconds: Mapping[str, float], failed: Collection[str]
    ) -> None:
        """A round of probes has ended.

        Args:
            loaded: what the server has ready; None: it did not say.
            seconds: how long each ensemble's inference took.
            failed: the ensembles whose inference failed.
        """
        self._probed.set_to_current_time()
        for ensemble, taken in seconds.items():
            self._seconds.labels(ensemble).observe(taken)
        ensembles = set(loaded.photo_models()) if loaded else set()
        for ensemble in ensembles:
            self._success.labels(ensemble).set(ensemble not in failed)
        for ensemble in self._ensembles - ensembles:
            if ensembles:  # it has been taken away, while others are there
                self._success.remove(ensemble)
            else:
                self._success.labels(ensemble).set(0)
        self._ensembles = ensembles or self._ensembles
        if loaded:
            self._note_loaded(loaded)

    def note_failed_loads(self, count: int) -> None:
        """So many versions could not be loaded."""
        self._events.labels("failed").inc(count)

    def _note_loaded(self, loaded: Loaded) -> None:
        self._info.info({"triton_version": loaded.release, "repository": self._repository})
        for model in loaded.python_models():
            for reason in STUB_REASONS:
                self._restarts.labels("stub", model, reason)
        before, self._states = self._states, loaded.states()
        for names in before.keys() - self._states.keys():
            for metric in (self._live, self._since, self._canary, self._share):
                metric.remove(*names)
        for names, state in self._states.items():
            self._live.labels(*names).set(state.live)
            self._canary.labels(*names).set(state.canary or 0)
            self._share.labels(*names).set(state.share)
            if names not in before or before[names].live != state.live:
                self._since.labels(*names).set(time.time())
            for event in find_events(before.get(names, state), state):
                self._events.labels(event).inc()


def find_events(before: State, now: State) -> list[str]:
    """What has happened between two states of one task, in the words of EVENTS."""
    found = []
    if now.live != before.live:
        found.append("live" if now.live > before.live else "back")
    if now.canary != before.canary:
        found.append("canary" if now.canary else "canary_ended")
    return found
