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

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from google.protobuf import json_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from client.canary import SUFFIX as CANARY_SUFFIX
from client.versions import wanted_versions
from serving.backoff import Backoff
from serving.control import Control
from serving.errors import ServingError, SlowStartError, StartError, first_line
from serving.model_config import takes_photos
from serving.server.process import Stub, TritonProcess
from serving.server.shared_memory import Region
from serving.server.vigil import PATIENCE, Sign, Vigil
from serving.server.watch import Watch

TICK = 0.2  # seconds between two looks at the processes
START_LOOK = 1.0  # seconds between two looks for what died while the server starts
PROBE_TIMEOUT = 10.0  # seconds; longer than a dead stub takes to fail, by far
TRITON_EXIT_SECONDS = 5  # what tritonserver itself may take to end; it waits for dead stubs in vain
FROZEN_SECONDS = 5.0  # for which a process may be stopped
LONGEST_PAUSE = 60.0  # seconds between two starts
HEALTHY_SECONDS = 300.0  # of work, after which the next restart is a first one
WORDS = 400  # characters of what the server said last
SILENT = ("DEADLINE_EXCEEDED", "UNAVAILABLE")  # statuses of a call that nobody answered

Report = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What the supervisor starts and how."""

    launch: Callable[[], TritonProcess]
    connect: Callable[[], Control]
    explain: Callable[[], str]  # why the process ended, from its log
    failed: Callable[[], list[str]]  # models that it could not load, from its log
    region: Region
    prepare: Callable[[], None]  # before something is loaded: is the repository there?
    release: Callable[[], None]  # everything, in the end
    watch: Watch | None  # follows changes of the repository
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
        self._pauses = Backoff(LONGEST_PAUSE)
        self._started = 0.0
        self._trouble: dict[str, str] = {}  # by ensemble
        self._dead_ends: set[str] = set()  # signs of them at the last look while it starts
        self._late: set[str] = set()  # ensembles whose last probe was not answered
        self._vigils: dict[tuple[str, str], Vigil] = {}  # by model and version
        self._silence: Vigil | None = None  # of the server itself
        self._stopped: dict[int, float] = {}  # when each process was first seen so
        self._puzzle = ""
        self._next_probe = 0.0
        self.probed: list[str] = []  # the ensembles that take photos, at the last look

    def run(self) -> None:
        """Start, supervise until `stopping` is set, drain, end, and clean up."""
        try:
            self._start_first()
            self.ready.set()
            while not self.stopping.wait(TICK):
                self._look_on()
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
            self._report(f"tritonserver {describe_exit(code)} as it started: starting it again")
            self._end_process()
            self._plan.region.clear()
            self._start()

    def _start(self) -> None:
        """Start the process and wait for a real inference.

        Raises:
            StartError: it ended, took too long, or refused the inference.
        """
        self._dead_ends, self._next_probe = set(), 0.0
        self._process = self._plan.launch()
        self._control = self._plan.connect()
        deadline = time.monotonic() + self._plan.start_seconds
        while not self.control.is_ready() and not self.stopping.is_set():
            if self.process.exit_code() is not None:
                raise StartError(f"tritonserver did not start:\n{self._plan.explain()}")
            self._find_dead_end()
            if time.monotonic() > deadline:
                raise SlowStartError(
                    f"tritonserver was not ready after {self._plan.start_seconds:.0f} s"
                )
            time.sleep(0.05)
        if not self.stopping.is_set():
            self._infer_first(deadline)
        self.process.stubs()
        self._started = time.monotonic()
        self._next_probe = self._started + self._plan.probe_seconds

    def _find_dead_end(self) -> None:
        """Triton waits for ever for a process that died early, and for others when a model failed.

        Raises:
            StartError: a sign of either lasts from one look to the next. Processes that Triton ends
                itself are dead for a moment only, and most often it ends by itself.
        """
        if time.monotonic() < self._next_probe:
            return
        self._next_probe = time.monotonic() + START_LOOK
        fallen, before = self.process.fallen(), self._dead_ends
        self._dead_ends = {*map(str, fallen), *self._plan.failed()}
        if self._dead_ends & before:
            ends = [describe_exit(code) for pid, code in fallen.items() if str(pid) in before]
            what = [f"a process of a Python model {end}" for end in ends[:1]]
            told = "\n".join([*what, self._plan.explain()])
            raise StartError(f"tritonserver did not start:\n{told}")

    def _infer_first(self, deadline: float) -> None:
        try:
            self.probed = self._photo_models()
        except InferenceServerException as error:
            raise StartError(f"tritonserver was ready, then failed: {first_line(error)}") from None
        if not self.probed:
            raise StartError(
                "the repository has no ensemble that takes photos, a single input named image of "
                f"TYPE_STRING; it has the models {', '.join(self._ready_models())}"
            )
        for model in self.probed:
            try:
                self.control.infer(model, max(1.0, deadline - time.monotonic()))
            except InferenceServerException as error:
                trouble = f"the first inference through {model} failed: {error.message()}"
                if not model.endswith(CANARY_SUFFIX):
                    raise StartError(trouble) from None
                self._report(trouble)  # a canary on trial stops nobody else's service

    def _look_on(self) -> None:
        """One look. What nobody foresaw is told; the server may be in the best of health."""
        try:
            self._look()
        except Exception as error:
            if repr(error) != self._puzzle:
                self._report(f"supervision goes on after {error!r}")
            self._puzzle = repr(error)

    def _look(self) -> None:
        """One look at everything that may have changed."""
        if (code := self.process.exit_code()) is not None:
            words = "" if code == -signal.SIGKILL else f", its last words: {self._last_words()}"
            self._restart(f"tritonserver {describe_exit(code)}{words}")
            return
        self._end_stopped()
        if self.process.dead_stubs() or time.monotonic() > self._next_probe:
            self._probe()
        if self._plan.watch:
            self._follow(self._plan.watch)

    def _probe(self) -> None:
        """One real inference, and the remedy if it or a stub tells of a death."""
        gone = self.process.dead_stubs()
        broken = self._broken_models() if gone else []
        trouble = {} if broken else self._find_trouble()
        if broken or (trouble and (broken := self._broken_models())):
            self._mend(broken)
        else:
            self._tell_trouble(trouble)
            self._end_hanging()
        self.process.stubs()
        self._plan.region.clear([stub.region for stub in gone])
        self._next_probe = time.monotonic() + self._plan.probe_seconds

    def _find_trouble(self) -> dict[str, str]:
        """Send a photo through each ensemble: what is wrong, by ensemble.

        They are looked up anew each time, since a canary comes and goes.
        """
        self._late.clear()
        try:
            self.probed = self._photo_models()
            troubles = {model: self._infer(model) for model in self.probed}
            known = self._ready_models()
        except InferenceServerException as error:
            self._end_silent(str(error.status()).endswith(SILENT))
            return {"the server": error.message()}
        self._end_silent(False)
        if not self.probed:
            return {"any ensemble": "none that takes photos is loaded"}
        return {model: trouble for model, trouble in troubles.items() if trouble and model in known}

    def _infer(self, model: str) -> str:
        try:
            self.control.infer(model, PROBE_TIMEOUT)
        except InferenceServerException as error:
            if "DEADLINE" not in str(error.status()):
                return error.message()
            self._late.add(model)
            return f"no answer within {PROBE_TIMEOUT:.0f} s"
        return ""

    def _photo_models(self) -> list[str]:
        return [name for name, config in self._configs().items() if takes_photos(config)]

    def _ready_models(self) -> list[str]:
        return list(dict.fromkeys(self.control.loaded()))

    def _configs(self) -> dict[str, ModelConfig]:
        """What each ready model runs with. One that vanishes meanwhile is no trouble."""
        found = {}
        for name in self._ready_models():
            try:
                found[name] = self.control.config(name)
            except InferenceServerException:
                if name in self._ready_models():
                    raise
        return found

    def _tell_trouble(self, troubles: dict[str, str]) -> None:
        """Report failed inferences without a death once, and once that it is over."""
        for model, trouble in troubles.items():
            if trouble != self._trouble.get(model):
                self._report(f"inference through {model} fails: {trouble}")
        for model in self._trouble.keys() - troubles.keys():
            self._report(f"inference through {model} works again")
        self._trouble = troubles

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
        versions = Counter(self.control.loaded())
        living = Counter(stub.model(versions) for stub in self.process.stubs())
        run_by_stubs = [name for name in versions if self.control.is_python(name)]
        return {m for m in run_by_stubs if living[m] < self.control.instances(m) * versions[m]}

    def _mend(self, models: list[str]) -> None:
        """Give the models new processes. Requests in flight elsewhere are not disturbed."""
        began = time.monotonic()
        names = ", ".join(models)
        self._report(f"a process of model {names} died: loading it again")
        self._plan.prepare()
        try:
            for model in models:
                self.control.unload(model)
            for model in models:
                self.control.load(model)
        except InferenceServerException as error:
            self._restart(f"model {names} could not be loaded again ({error.message()})")
            return
        if not self._find_trouble():
            self._report(f"model {names} works again after {time.monotonic() - began:.1f} s")

    def _end_stopped(self) -> None:
        """End what has been stopped for a while: the next look sees it dead."""
        now, names = time.monotonic(), self.process.stopped()
        self._stopped = {pid: self._stopped.get(pid, now) for pid in names}
        for pid, since in self._stopped.items():
            if now - since >= FROZEN_SECONDS:
                self._report(f"{names[pid]} (process {pid}) is stopped: ending it")
                os.kill(pid, signal.SIGKILL)

    def _end_silent(self, silent: bool) -> None:
        """End a server that answers no call and does nothing."""
        if not silent:
            self._silence = None
            return
        process = self.process
        if self._silence is None:
            self._silence = Vigil(lambda: Sign(False, 0, process.cpu()), lambda: None)
        if self._silence.hangs():
            self._report(f"tritonserver has answered nothing for {PATIENCE:.0f} s: ending it")
            process.kill()

    def _end_hanging(self) -> None:
        """End the processes of a model that hangs: the next look sees them dead."""
        try:
            behind = self._behind(self._late)
            for gone in self._vigils.keys() - behind:
                self._vigils.pop(gone).end()
            for new in behind - self._vigils.keys():
                self._vigils[new] = self._begin_vigil(*new)
            hanging = {model for (model, _), vigil in self._vigils.items() if vigil.hangs()}
        except InferenceServerException:  # the next look tells
            return
        for model in hanging:
            self._report(f"model {model} has answered nothing for {PATIENCE:.0f} s: ending it")
            for stub in self._stubs_of(model):
                stub.kill()

    def _behind(self, ensembles: Iterable[str]) -> set[tuple[str, str]]:
        """The models that ensembles pass photos to, and the version of each if they name one."""
        steps = (
            s for name in ensembles for s in self.control.config(name).ensemble_scheduling.step
        )
        return {(s.model_name, str(s.model_version) if s.model_version > 0 else "") for s in steps}

    def _begin_vigil(self, model: str, version: str) -> Vigil:
        control, answered = self.control, threading.Event()
        cancel = control.ask(model, version, answered.set)

        def look() -> Sign:
            cpu = sum(stub.cpu() for stub in self._stubs_of(model))
            return Sign(answered.is_set(), control.finished(model, version), cpu)

        return Vigil(look, cancel)

    def _stubs_of(self, model: str) -> list[Stub]:
        names = self._ready_models()
        return [stub for stub in self.process.stubs() if stub.model(names) == model]

    def _restart(self, reason: str) -> None:
        """Replace the process, as often as it takes: it has run before."""
        began = time.monotonic()
        if began - self._started > HEALTHY_SECONDS:
            self._pauses.reset()
        while not self.stopping.is_set():
            pause = self._pauses.pause()
            self._report(f"{reason}: starting it again{f' in {pause:.0f} s' if pause else ''}")
            self._end_process()
            self._plan.region.clear()
            if self.stopping.wait(pause):
                return
            try:
                self._plan.prepare()
                self._start()
            except (ServingError, OSError) as error:
                reason = one_line(str(error))
                continue
            if not self.stopping.is_set():
                self._report(f"serving again after {time.monotonic() - began:.1f} s")
            return

    def _last_words(self) -> str:
        return one_line(self._plan.explain())

    def _follow(self, watch: Watch) -> None:
        """Load what changed in the repository; what does not load leaves the old one serving.

        The order matters where several models change at once, for example when a canary is
        promoted: an ensemble must never ask for a version that is not served. So before ensembles
        change, their models serve what both the old and the new ones ask for, and only afterwards
        no more than their files say. (Loading an ensemble makes Triton load what changed in its
        models first, which for a moment leaves the old one without its version.)
        """
        changes = watch.changes()
        if changes.trouble is not None:
            self._report(changes.trouble or "the repository can be read again")
        if not (changes.changed or changes.gone):
            return
        self._plan.prepare()
        ensembles = {m for m in [*changes.changed, *changes.gone] if self._is_ensemble(m)}
        others = [model for model in changes.changed if model not in ensembles]
        self._unload([model for model in changes.gone if model in ensembles])
        narrow = {model: self._widen(watch, model) for model in others if ensembles}
        for model in [*(m for m in changes.changed if m in ensembles), *others]:
            failed = f"{model} was not loaded, the old one goes on"
            load = partial(self.control.load, config=narrow.get(model, ""))
            self._try(f"loaded {model} anew", failed, load, model)
        self._unload([model for model in changes.gone if model not in ensembles])
        for model, version in changes.arrived.items():
            self._tell_unserved(model, version)

    def _widen(self, watch: Watch, model: str) -> str:
        """Have a model serve what it serves now as well as what its file asks for.

        Returns:
            The file as JSON, to be loaded in the end; empty where nothing was widened.
        """
        try:
            config, folders = watch.config(model), watch.versions(model)
            asked = wanted_versions(config, folders)
            served = {n for n in folders if self.control.has_version(model, str(n))}
            if served <= asked:
                return ""
            wide = ModelConfig()
            wide.CopyFrom(config)
            wide.version_policy.specific.versions[:] = sorted(served | asked)
            self.control.load(model, config=to_json(wide))
        except (ServingError, InferenceServerException):  # the load that follows tells why
            return ""
        return to_json(config)

    def _unload(self, models: list[str]) -> None:
        for model in models:
            self._try(f"unloaded {model}", f"{model} stays loaded", self.control.unload, model)

    def _is_ensemble(self, model: str) -> bool:
        """Whether the model runs now and is an ensemble, though its folder may be gone."""
        try:
            return bool(self.control.config(model).platform == "ensemble")
        except InferenceServerException:
            return False

    def _tell_unserved(self, model: str, version: int) -> None:
        """After a rollback a newer version is not served by itself: say so."""
        try:
            policy = self.control.config(model).version_policy
        except InferenceServerException:  # it did not load, which has been said
            return
        served = list(policy.specific.versions)
        if served and version not in served:
            self._report(
                f"{model} version {version} is not served, {model}/config.pbtxt asks for "
                f"{', '.join(map(str, served))}: `python -m serving promote {version}` serves it"
            )

    def _try(self, done: str, failed: str, call: Callable[[str], None], model: str) -> None:
        try:
            call(model)
        except InferenceServerException as error:
            self._report(f"{failed}: {first_line(error)}")
        else:
            self._report(done)

    def _drain(self) -> None:
        """Refuse new requests and let those in flight finish.

        Ending tritonserver alone would fail them: the next step of an ensemble is refused as soon
        as it is told to end. An unloaded ensemble refuses new requests with NOT_FOUND, finishes
        the old ones, and only then counts as unloaded.
        """
        if self.process.exit_code() is not None:  # between two starts
            return
        deadline = time.monotonic() + self._plan.drain_seconds
        try:
            ensembles = {
                n for n, config in self._configs().items() if config.platform == "ensemble"
            }
            for model in ensembles:
                self.control.unload(model)
        except InferenceServerException as error:
            self._report(f"could not drain: {error.message()}")
            return
        try:
            while ensembles & set(self.control.models("READY", "UNLOADING")):
                if time.monotonic() > deadline or self.hurry.is_set():
                    self._report("requests still in flight were given up")
                    break
                time.sleep(0.05)
        except (
            InferenceServerException
        ):  # it asks the repository, which is away: seconds have passed
            self._report(
                "requests in flight had 5 s: with its repository away the server cannot tell"
            )

    def _end(self) -> None:
        self._end_process()
        self._plan.release()

    def _end_process(self) -> None:
        self._vigils, self._silence = {}, None
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.stop(TRITON_EXIT_SECONDS + 2)


def to_json(config: ModelConfig) -> str:
    """A model's configuration as Triton's load call takes it."""
    return json_format.MessageToJson(config, preserving_proto_field_name=True)


def one_line(text: str) -> str:
    """A text of several lines as a part of one, not longer than WORDS."""
    line = " ".join(text.split())
    return line if len(line) <= WORDS else f"{line[:WORDS]} ..."


def describe_exit(code: int) -> str:
    """What an exit code of a process says, for a sentence."""
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
