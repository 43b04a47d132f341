"""The start of a tritonserver, from its process to the first real inference."""

import threading
import time

from tritonclient.utils import InferenceServerException

from serving import lines
from serving.control import Control
from serving.errors import SlowStartError, StartError, first_line
from serving.repository import CANARY_SUFFIX
from serving.server.plan import Plan, Report
from serving.server.process import describe_exit
from serving.server.running import Running

CHECK_SECONDS = 1.0  # between two searches for what died while the server starts


def wait_until_ready(
    running: Running, plan: Plan, deadline: float, stopping: threading.Event
) -> None:
    """Wait until all models are loaded, or `stopping` is set.

    Raises:
        StartError: the server ended, or waits for a process that died or for a model that failed.
        SlowStartError: the deadline has passed, by time.monotonic.
    """
    dead_ends = DeadEnds(running, plan)
    while not running.control.is_ready() and not stopping.is_set():
        if running.process.exit_code() is not None:
            raise StartError(f"tritonserver did not start:\n{plan.explain()}")
        dead_ends.check()
        if time.monotonic() > deadline:
            raise SlowStartError(f"tritonserver was not ready after {plan.start_seconds:.0f} s")
        time.sleep(0.05)


class DeadEnds:
    """Triton waits for ever for a process that died early, and for others when a model failed."""

    def __init__(self, running: Running, plan: Plan) -> None:
        self._running = running
        self._plan = plan
        self._signs: set[str] = set()  # process ids and models, at the last check
        self._next = 0.0

    def check(self) -> None:
        """Search for signs of either, once a second.

        Raises:
            StartError: a sign lasts from one check to the next. Processes that Triton ends itself
                are dead for a moment only, and most often it ends by itself.
        """
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + CHECK_SECONDS
        fallen, before = self._running.process.fallen(), self._signs
        self._signs = {*map(str, fallen), *self._plan.failed()}
        if self._signs & before:
            ends = [describe_exit(code) for pid, code in fallen.items() if str(pid) in before]
            what = [f"a process of a Python model {end}" for end in ends[:1]]
            told = "\n".join([*what, self._plan.explain()])
            raise StartError(f"tritonserver did not start:\n{told}")


def infer_first(running: Running, deadline: float, report: Report) -> list[str]:
    """Send a photo through each ensemble that takes photos. Returns their names.

    Raises:
        StartError: there is none, or one fails. A canary that fails is only reported: on trial, it
            stops nobody else's service.
    """
    try:
        ensembles = running.photo_models()
        if not ensembles:
            raise StartError(
                "the repository has no ensemble that takes photos, a single input named image of "
                f"TYPE_STRING; it has the models {', '.join(running.ready_models())}"
            )
    except InferenceServerException as error:
        raise StartError(f"tritonserver was ready, then failed: {first_line(error)}") from None
    for model in ensembles:
        try:
            _infer_twice(running.control, model, deadline)
        except InferenceServerException as error:
            trouble = f"the first inference through {model} failed: {error.message()}"
            if not model.endswith(CANARY_SUFFIX):
                raise StartError(trouble) from None
            report(lines.error(trouble))
    return ensembles


def _infer_twice(control: Control, model: str, deadline: float) -> None:
    """A failure counts if it lasts: Triton is ready already, so that somebody may be publishing.

    Raises:
        InferenceServerException: both inferences failed.
    """
    try:
        control.infer(model, max(1.0, deadline - time.monotonic()))
    except InferenceServerException:
        time.sleep(CHECK_SECONDS)
        control.infer(model, max(1.0, deadline - time.monotonic()))
