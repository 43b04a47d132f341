"""Tells what hangs from what is merely busy.

An answer that does not come in time says little: a server under load answers late. So from then on
one request waits, for as long as it takes, at each model behind the ensemble that was late. A
model hangs if that request stays without an answer while the model finishes nobody's request, and
its processes meanwhile do nothing at all, or far more than any request costs. A busy model fails
the first: it finishes others' requests. A starved one fails the second.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tritonclient.utils import InferenceServerException

from serving import lines
from serving.server.plan import Report
from serving.server.process import SERVER
from serving.server.running import Running

PATIENCE = 60.0  # seconds
OBSERVATIONS = 3  # at least: a machine that stood still for a minute is no reason
IDLE = 0.01  # of a core, at most, while waiting for what never comes
COSTLY = 30.0  # seconds of a core that no request takes


@dataclass(frozen=True)
class Sign:
    """What is seen of a model, or of the server, at one moment."""

    answered: bool  # our own request
    finished: int  # requests, anybody's
    cpu: float  # seconds of a core that its processes have used


class Vigil:
    """Watches one model, or the server.

    Args:
        observe: what is seen at this moment.
        cancel: gives up the request that waits.
    """

    def __init__(self, observe: Callable[[], Sign], cancel: Callable[[], object]) -> None:
        self._observe = observe
        self.end = cancel
        self._begin(observe())

    def _begin(self, sign: Sign) -> None:
        self._began, self._observations, self._first = time.monotonic(), 0, sign

    def hangs(self) -> bool:
        """Whether that is certain now."""
        sign = self._observe()
        if sign.answered:
            return False
        if sign.finished != self._first.finished:
            self._begin(sign)
            return False
        self._observations += 1
        waited, cpu = time.monotonic() - self._began, sign.cpu - self._first.cpu
        idle = cpu <= IDLE * waited
        return self._observations >= OBSERVATIONS and waited >= PATIENCE and (idle or cpu >= COSTLY)


class Vigils:
    """Ends what hangs: the server itself, and processes of models. The next check sees them dead.

    Args:
        running: what is watched, for as long as it runs.
        report: takes a line for each thing that is ended.
    """

    def __init__(self, running: Running, report: Report) -> None:
        self._running = running
        self._report = report
        self._server: Vigil | None = None
        self._models: dict[tuple[str, str], Vigil] = {}  # by model and version

    def end_silent_server(self, silent: bool) -> None:
        """After each probe: end a server that answers no call and does nothing."""
        if not silent:
            self._server = None
            return
        process = self._running.process
        if self._server is None:
            self._server = Vigil(lambda: Sign(False, 0, process.cpu()), lambda: None)
        if self._server.hangs():
            told = f"tritonserver has answered nothing for {PATIENCE:.0f} s: ending it"
            self._report(lines.warning(told))
            process.end(process.pid, SERVER, "silent")

    def end_hanging_models(self, late: Iterable[str]) -> None:
        """After each probe: end the processes of models that hang behind late ensembles."""
        try:
            behind = self._models_behind(late)
            for gone in self._models.keys() - behind:
                self._models.pop(gone).end()
            for new in behind - self._models.keys():
                self._models[new] = self._begin(*new)
            hanging = {model for (model, _), vigil in self._models.items() if vigil.hangs()}
        except InferenceServerException:  # the next check tells
            return
        for model in hanging:
            told = f"model {model} has answered nothing for {PATIENCE:.0f} s: ending it"
            self._report(lines.warning(told))
            for stub in self._running.stubs_of(model):
                self._running.process.end(stub.pid, stub.instance, "hung")

    def _models_behind(self, ensembles: Iterable[str]) -> set[tuple[str, str]]:
        """The models that ensembles pass photos to, and the version of each if they name one."""
        configs = [self._running.control.config(name) for name in ensembles]
        steps = [step for config in configs for step in config.ensemble_scheduling.step]
        return {(s.model_name, str(s.model_version) if s.model_version > 0 else "") for s in steps}

    def _begin(self, model: str, version: str) -> Vigil:
        control, answered = self._running.control, threading.Event()
        cancel = control.ask(model, version, answered.set)

        def observe() -> Sign:
            cpu = sum(stub.cpu() for stub in self._running.stubs_of(model))
            return Sign(answered.is_set(), control.finished(model, version), cpu)

        return Vigil(observe, cancel)
