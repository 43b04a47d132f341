"""Starts a tritonserver, keeps it working and ends it.

What can die: tritonserver itself, which is then started again; and a stub, the process of one
Python model. Triton 2.51 neither notices nor mends a dead stub: readiness stays true and every
request fails with INTERNAL after a second. So a real inference goes through each ensemble that
takes photos every few seconds, and when it fails, or a stub has vanished, each model with fewer
living stubs than instances is unloaded and loaded again. A slow answer alone is no death: a busy
server is left in peace. What was stopped (SIGSTOP), or hangs by the signs of vigil.py, is ended,
and then mended like what died.

A server that has run is never given up: it is started again as often as it takes, after longer and
longer pauses.
"""

import signal
import threading
import time

from tritonclient.utils import InferenceServerException

from serving import lines
from serving.backoff import Backoff
from serving.errors import ServingError, StartError
from serving.server.drain import drain
from serving.server.plan import Plan, Report
from serving.server.probe import Finding, probe_ensembles
from serving.server.process import SERVER, TritonProcess, describe_exit
from serving.server.reload import Reload
from serving.server.running import Running
from serving.server.start import infer_first, wait_until_ready
from serving.server.vigil import Vigils
from serving.server.watch import Watch

TICK = 0.2  # seconds between two checks of the processes
FROZEN_SECONDS = 5.0  # for which a process may be stopped
LONGEST_PAUSE = 60.0  # seconds between two starts
HEALTHY_SECONDS = 300.0  # of work, after which the next restart is a first one
WORDS = 400  # characters of what the server said last


class Supervisor:
    """One tritonserver's whole life, in the thread that calls `run`."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self.ready = threading.Event()  # the first real inference succeeded
        self.stopping = threading.Event()  # set it to drain and end
        self.hurry = threading.Event()  # set it to end without waiting any longer
        self.ended = threading.Event()
        self.failure: ServingError | None = None  # why it ended, if nobody asked
        self.probed: list[str] = []  # the ensembles that take photos, at the last probe
        self._plan = plan
        self._tell = report
        self._server: Running | None = None
        self._vigils: Vigils  # over that server
        self._pauses = Backoff(LONGEST_PAUSE)
        self._started = 0.0
        self._trouble: dict[str, str] = {}  # what was reported, by ensemble
        self._stopped: dict[int, float] = {}  # when each process was first seen so
        self._trace = ""  # id of the probe under way
        self._surprise = ""  # the last one that was reported
        self._next_probe = 0.0

    def _report(self, line: str) -> None:
        self._tell(lines.Line(line, trace=self._trace))

    def run(self) -> None:
        """Start, supervise until `stopping` is set, drain, end, and clean up."""
        try:
            self._start_first()
            self.ready.set()
            while not self.stopping.wait(TICK):
                self._supervise()
            if self.process.exit_code() is None:  # else between two starts
                drain(self._running, self._plan.drain_seconds, self.hurry, self._report)
        except ServingError as error:
            self.failure = error
        except Exception as error:
            self.failure = ServingError(f"supervision failed: {error!r}")
        finally:
            self._end_server()
            self._plan.release()
            self.ended.set()

    @property
    def process(self) -> TritonProcess:
        """The process of the moment."""
        return self._running.process

    @property
    def _running(self) -> Running:
        if self._server is None:
            raise ServingError("the server was not started")
        return self._server

    def _start_first(self) -> None:
        """Start; once more where a signal ended tritonserver, for that says nothing of the models.

        On a busy machine Triton 2.51 aborts now and then as it starts: a lock in shared memory was
        not to be had in time (boost::interprocess::lock_exception).

        Raises:
            StartError: as `_start`.
        """
        try:
            self._start()
        except StartError:
            code = self.process.exit_code()
            if self.stopping.is_set() or code is None or code >= 0:
                raise
            told = f"tritonserver {describe_exit(code)} as it started: starting it again"
            self._report(lines.warning(told))
            self._plan.metrics.note_restart("server", "", "start")
            self._end_server()
            self._plan.region.clear()
            self._start()

    def _start(self) -> None:
        """Start the process and wait for a real inference.

        Raises:
            StartError: it ended, took too long, or refused the inference.
        """
        self._server = Running(self._plan.launch(), self._plan.connect())
        self._plan.metrics.note_start()
        self._vigils = Vigils(self._server, self._report)
        deadline = time.monotonic() + self._plan.start_seconds
        wait_until_ready(self._server, self._plan, deadline, self.stopping)
        if not self.stopping.is_set():
            self.probed = infer_first(self._server, deadline, self._report)
            self._find_trouble()
        self._trace = ""
        self.process.stubs()
        self._started = time.monotonic()
        self._next_probe = self._started + self._plan.probe_seconds

    def _supervise(self) -> None:
        """Check once. What nobody foresaw is told; the server may be in the best of health."""
        try:
            self._check()
        except Exception as error:
            if repr(error) != self._surprise:
                self._report(lines.error(f"supervision goes on after {error!r}"))
            self._surprise = repr(error)

    def _check(self) -> None:
        """Check everything that may have changed, once."""
        if (code := self.process.exit_code()) is not None:
            last_words = _to_one_line(self._plan.explain())
            words = "" if code == -signal.SIGKILL else f", its last words: {last_words}"
            why = self.process.ended.get(SERVER) or ("signal" if code < 0 else "exited")
            self._restart(f"tritonserver {describe_exit(code)}{words}", why)
            return
        self._end_stopped()
        if self.process.dead_stubs() or time.monotonic() > self._next_probe:
            self._probe()
            self._trace = ""
        if self._plan.watch:
            self._follow(self._plan.watch)

    def _probe(self) -> None:
        """One real inference, and the remedy if it or a stub tells of a death."""
        gone = self.process.dead_stubs()
        broken = self._running.broken_models() if gone else []
        if not broken:
            found = self._find_trouble()
            broken = self._running.broken_models() if found.trouble else []
        if broken:
            self._mend(broken)
        else:
            self._report_trouble(found.trouble)
            self._vigils.end_hanging_models(found.late)
        self.process.stubs()
        self._plan.region.clear([stub.region for stub in gone])
        self._next_probe = time.monotonic() + self._plan.probe_seconds

    def _find_trouble(self) -> Finding:
        """Probe; a server that answers nothing may be ended."""
        found, metrics = probe_ensembles(self._running), self._plan.metrics
        self._trace = found.trace
        metrics.note_probe(found.loaded, found.seconds, found.trouble)
        metrics.note_failed_loads(len(self._plan.failed_lately()))
        self._vigils.end_silent_server(found.silent)
        if found.loaded is not None:
            self.probed = found.loaded.photo_models()
        return found

    def _report_trouble(self, troubles: dict[str, str]) -> None:
        """Report failed inferences without a death once, and once that it is over."""
        for model, trouble in troubles.items():
            if trouble != self._trouble.get(model):
                self._report(lines.error(f"inference through {model} fails: {trouble}"))
        for model in self._trouble.keys() - troubles.keys():
            self._report(f"inference through {model} works again")
        self._trouble = troubles

    def _mend(self, models: list[str]) -> None:
        """Give the models new processes. Requests in flight elsewhere are not disturbed."""
        began = time.monotonic()
        names = ", ".join(models)
        for model in models:
            why = self.process.why_ended(model) or "died"
            self._plan.metrics.note_restart("stub", model, why)
        self._report(lines.warning(f"a process of model {names} died: loading it again"))
        try:
            with self._plan.hurry():
                self._load_again(models)
        except InferenceServerException as error:
            if self.process.exit_code() is None:  # else the next check tells
                told = f"model {names} could not be loaded again ({error.message()})"
                self._restart(told, "load")
            return
        if not self._find_trouble().trouble:
            self._report(f"model {names} works again after {time.monotonic() - began:.1f} s")

    def _load_again(self, models: list[str]) -> None:
        self._plan.prepare()
        for model in models:
            self._running.control.unload(model)
        for model in models:
            self._running.control.load(model)

    def _end_stopped(self) -> None:
        """End what has been stopped for a while: the next check sees it dead."""
        now, names = time.monotonic(), self.process.stopped()
        self._stopped = {pid: self._stopped.get(pid, now) for pid in names}
        for pid, since in self._stopped.items():
            if now - since >= FROZEN_SECONDS:
                self._report(lines.warning(f"{names[pid]} (process {pid}) is stopped: ending it"))
                self.process.end(pid, names[pid], "stopped")

    def _restart(self, reason: str, why: str) -> None:
        """Replace the process, as often as it takes: it has run before.

        Args:
            reason: begins the line about it.
            why: the same as one of SERVER_REASONS.
        """
        began = time.monotonic()
        if began - self._started > HEALTHY_SECONDS:
            self._pauses.reset()
        while not self.stopping.is_set():
            pause = self._pauses.pause()
            told = f"{reason}: starting it again{f' in {pause:.0f} s' if pause else ''}"
            self._plan.metrics.note_restart("server", "", why)
            self._report(lines.error(told) if why == "start" else lines.warning(told))
            self._end_server()
            self._plan.region.clear()
            if self.stopping.wait(pause):
                return
            try:
                self._plan.prepare()
                self._start()
            except (ServingError, OSError) as error:
                reason, why = _to_one_line(str(error)), "start"
                continue
            if not self.stopping.is_set():
                self._report(f"serving again after {time.monotonic() - began:.1f} s")
            return

    def _follow(self, watch: Watch) -> None:
        """Load what changed in the repository."""
        changes = watch.changes()
        if changes.trouble is not None:
            trouble = changes.trouble and lines.warning(changes.trouble)
            self._report(trouble or "the repository can be read again")
        if changes.changed or changes.gone:
            self._plan.prepare()
            Reload(self._running.control, watch, self._report).apply(changes)

    def _end_server(self) -> None:
        if self._server is not None:
            self._server.end()


def _to_one_line(text: str) -> str:
    """A text of several lines as a part of one, not longer than WORDS."""
    line = " ".join(text.split())
    return line if len(line) <= WORDS else f"{line[:WORDS]} ..."
