"""Starts a tritonserver, keeps it working and ends it.

What can die: tritonserver itself, which is then started again; and a stub, the process of one
Python model. Triton 2.51 neither notices nor mends a dead stub: readiness stays true and every
request fails with INTERNAL after a second. So a real inference goes through the ensemble every few
seconds, and when it fails, or a stub has vanished, each model with fewer living stubs than
instances is unloaded and loaded again. A slow answer alone is no death: a busy server is left in
peace.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from tritonclient.utils import InferenceServerException

from serving.control import Control
from serving.errors import ServingError, StartError
from serving.process import TritonProcess
from serving.shared_memory import Region
from serving.watch import Watch

TICK = 0.2  # seconds between two looks at the processes
WATCH_SECONDS = 1.0  # between two looks at the repository
PROBE_TIMEOUT = 10.0  # seconds; longer than a dead stub takes to fail, by far
TRITON_EXIT_SECONDS = 5  # what tritonserver itself may take to end; it waits for dead stubs in vain
RESTARTS = 5  # at most, within RESTART_WINDOW
RESTART_WINDOW = 600.0  # seconds

Report = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What the supervisor starts and how."""

    launch: Callable[[], TritonProcess]
    connect: Callable[[], Control]
    explain: Callable[[], str]  # why the process ended, from its log
    region: Region
    watch: Watch | None  # follows changes of the repository
    model: str  # what the real inferences go to
    start_seconds: float
    drain_seconds: float
    probe_seconds: float


class Supervisor:
    """One tritonserver's whole life, in the thread that calls `run`."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self.ready = threading.Event()  # the first real inference succeeded
        self.stopping = threading.Event()  # set it to drain and end
        self.hurry = threading.Event()  # set it to end without waiting any longer
        self.ended = threading.Event()
        self.failure: ServingError | None = None  # why it ended, if nobody asked
        self._plan = plan
        self._report = report
        self._process: TritonProcess | None = None
        self._control: Control | None = None
        self._restarts: deque[float] = deque()
        self._trouble = ""
        self._next_probe = self._next_watch = 0.0

    def run(self) -> None:
        """Start, supervise until `stopping` is set, drain, end, and clean up."""
        try:
            self._start()
            self.ready.set()
            while not self.stopping.wait(TICK):
                self._look()
            self._drain()
        except ServingError as error:
            self.failure = error
        except Exception as error:
            self.failure = ServingError(f"supervision failed: {error!r}")
        finally:
            self._end()
            self.ended.set()

    @property
    def process(self) -> TritonProcess:
        """The process of the moment."""
        if self._process is None:
            raise ServingError("the server was not started")
        return self._process

    @property
    def control(self) -> Control:
        """The connection to it."""
        if self._control is None:
            raise ServingError("the server was not started")
        return self._control

    def _start(self) -> None:
        """Start the process and wait for a real inference.

        Raises:
            StartError: it ended, took too long, or refused the inference.
        """
        self._process = self._plan.launch()
        self._control = self._plan.connect()
        deadline = time.monotonic() + self._plan.start_seconds
        while not self.control.is_ready() and not self.stopping.is_set():
            if self.process.exit_code() is not None:
                raise StartError(f"tritonserver did not start:\n{self._plan.explain()}")
            if time.monotonic() > deadline:
                raise StartError(
                    f"tritonserver was not ready after {self._plan.start_seconds:.0f} s: "
                    "give it longer with --start-seconds"
                )
            time.sleep(0.05)
        if not self.stopping.is_set():
            self._infer_first(deadline)
        self.process.stubs()
        self._next_probe = time.monotonic() + self._plan.probe_seconds

    def _infer_first(self, deadline: float) -> None:
        model = self._plan.model
        if model not in (known := self.control.models("READY")):
            raise StartError(
                f"the repository has no model {model}, only {', '.join(known)}: name the one "
                "that takes photos with --model"
            )
        try:
            self.control.infer(model, max(1.0, deadline - time.monotonic()))
        except InferenceServerException as error:
            raise StartError(
                f"the first inference through {model} failed: {error.message()}"
            ) from None

    def _look(self) -> None:
        """One look at everything that may have changed."""
        if (code := self.process.exit_code()) is not None:
            self._restart(f"tritonserver {describe_exit(code)}")
        elif self.process.dead_stubs() or time.monotonic() > self._next_probe:
            self._probe()
        elif self._plan.watch and time.monotonic() > self._next_watch:
            self._next_watch = time.monotonic() + WATCH_SECONDS
            self._follow(self._plan.watch)

    def _probe(self) -> None:
        """One real inference, and the remedy if it or a stub tells of a death."""
        gone = self.process.dead_stubs()
        broken = self._broken_models() if gone else []
        error = None if broken else self._infer()
        if broken or (error and (broken := self._broken_models())):
            self._mend(broken)
        else:
            self._tell_trouble(error)
        self.process.stubs()
        self._plan.region.clear([stub.region for stub in gone])
        self._next_probe = time.monotonic() + self._plan.probe_seconds

    def _infer(self) -> InferenceServerException | None:
        try:
            self.control.infer(self._plan.model, PROBE_TIMEOUT)
        except InferenceServerException as error:
            return error
        return None

    def _tell_trouble(self, error: InferenceServerException | None) -> None:
        """Report a failed inference without a death once, and once that it is over."""
        trouble = ""
        if error is not None:
            slow = "DEADLINE" in str(error.status())
            trouble = f"no answer within {PROBE_TIMEOUT:.0f} s" if slow else error.message()
        if trouble != self._trouble:
            self._report(f"inference fails: {trouble}" if trouble else "inference works again")
        self._trouble = trouble

    def _broken_models(self) -> list[str]:
        """Models that lack a stub, seen twice: one being exchanged looks so for a moment."""
        try:
            first = self._lacking_stubs()
            if first:
                time.sleep(0.1)
            return sorted(first & self._lacking_stubs()) if first else []
        except InferenceServerException:  # the server is ending: the next look sees it
            return []

    def _lacking_stubs(self) -> set[str]:
        versions = Counter(self.control.models("READY"))
        living = Counter(stub.model(versions) for stub in self.process.stubs())
        run_by_stubs = [name for name in versions if self.control.is_python(name)]
        return {m for m in run_by_stubs if living[m] < self.control.instances(m) * versions[m]}

    def _mend(self, models: list[str]) -> None:
        """Give the models new processes. Requests in flight elsewhere are not disturbed."""
        began = time.monotonic()
        names = ", ".join(models)
        self._report(f"a process of model {names} died: loading it again")
        try:
            for model in models:
                self.control.unload(model)
            for model in models:
                self.control.load(model)
        except InferenceServerException as error:
            self._restart(f"model {names} could not be loaded again ({error.message()})")
            return
        if self._infer() is None:
            self._report(f"model {names} works again after {time.monotonic() - began:.1f} s")

    def _restart(self, reason: str) -> None:
        """Replace the process.

        Raises:
            ServingError: that happened too often, or it does not start any more.
        """
        began = time.monotonic()
        self._restarts.append(began)
        while self._restarts[0] < began - RESTART_WINDOW:
            self._restarts.popleft()
        if len(self._restarts) > RESTARTS:
            raise ServingError(
                f"{reason}; after {RESTARTS} new starts within {RESTART_WINDOW / 60:.0f} minutes "
                f"this is no accident. Its last words: {self._plan.explain()}"
            )
        self._report(f"{reason}: starting it again")
        self._end_process()
        self._plan.region.clear()
        self._start()
        self._report(f"serving again after {time.monotonic() - began:.1f} s")

    def _follow(self, watch: Watch) -> None:
        """Load what changed in the repository; what does not load leaves the old one serving."""
        changed, gone = watch.changes()
        for model in changed:
            failed = f"{model} was not loaded, the old one goes on"
            self._try(f"loaded {model} anew", failed, self.control.load, model)
        for model in gone:
            self._try(f"unloaded {model}", f"{model} stays loaded", self.control.unload, model)

    def _try(self, done: str, failed: str, call: Callable[[str], None], model: str) -> None:
        try:
            call(model)
        except InferenceServerException as error:
            reason = error.message().splitlines()[0]  # a Python backend adds its stack trace
            self._report(f"{failed}: {reason}")
        else:
            self._report(done)

    def _drain(self) -> None:
        """Refuse new requests and let those in flight finish.

        Ending tritonserver alone would fail them: the next step of an ensemble is refused as soon
        as it is told to end. An unloaded ensemble refuses new requests with NOT_FOUND, finishes
        the old ones, and only then counts as unloaded.
        """
        deadline = time.monotonic() + self._plan.drain_seconds
        try:
            ensembles = set(self.control.ensembles())
            for model in ensembles:
                self.control.unload(model)
            while ensembles & set(self.control.models("READY", "UNLOADING")):
                if time.monotonic() > deadline or self.hurry.is_set():
                    self._report("requests still in flight were given up")
                    break
                time.sleep(0.05)
        except InferenceServerException as error:
            self._report(f"could not drain: {error.message()}")

    def _end(self) -> None:
        self._end_process()
        self._plan.region.release()

    def _end_process(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.stop(TRITON_EXIT_SECONDS + 2)


def describe_exit(code: int) -> str:
    """What an exit code of a process says, for a sentence."""
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
