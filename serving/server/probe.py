"""Real inferences that tell whether a running server works."""

import secrets
import time
from dataclasses import dataclass, field

from tritonclient.utils import InferenceServerException

from serving.served import Loaded
from serving.server.running import Running

PROBE_TIMEOUT = 10.0  # seconds; longer than a dead stub takes to fail, by far
SILENT = ("DEADLINE_EXCEEDED", "UNAVAILABLE")  # statuses of a call that nobody answered


@dataclass
class Finding:
    """What one round of inferences showed."""

    loaded: Loaded | None = None  # what the server has ready; None: it did not say
    trouble: dict[str, str] = field(default_factory=dict)  # what is wrong, by ensemble
    late: set[str] = field(default_factory=set)  # ensembles that did not answer in time
    silent: bool = False  # the server answers no call
    seconds: dict[str, float] = field(default_factory=dict)  # each inference took, by ensemble
    trace: str = field(default_factory=lambda: secrets.token_hex(16))  # id of all of them


def probe_ensembles(running: Running) -> Finding:
    """Send a photo through each ensemble that takes photos.

    They are looked up anew each time, since a canary comes and goes.
    """
    found = Finding()
    try:
        found.loaded = running.loaded()
        ensembles = found.loaded.photo_models()
        troubles = {model: _infer(running, model, found) for model in ensembles}
        known = running.ready_models()
    except InferenceServerException as error:
        found.loaded = None
        found.silent = str(error.status()).endswith(SILENT)
        found.trouble = {"the server": error.message()}
        return found
    found.trouble = {m: trouble for m, trouble in troubles.items() if trouble and m in known}
    if not ensembles:
        found.trouble = {"any ensemble": "none that takes photos is loaded"}
    return found


def _infer(running: Running, model: str, found: Finding) -> str:
    """Why an inference failed, empty if it succeeded; one without an answer is also `late`."""
    began = time.monotonic()
    try:
        running.control.infer(model, PROBE_TIMEOUT, found.trace)
    except InferenceServerException as error:
        if "DEADLINE" not in str(error.status()):
            return error.message()
        found.late.add(model)
        return f"no answer within {PROBE_TIMEOUT:.0f} s"
    finally:
        found.seconds[model] = time.monotonic() - began
    return ""
