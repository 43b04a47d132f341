"""Real inferences that tell whether a running server works."""

from dataclasses import dataclass, field

from tritonclient.utils import InferenceServerException

from serving.server.running import Running

PROBE_TIMEOUT = 10.0  # seconds; longer than a dead stub takes to fail, by far
SILENT = ("DEADLINE_EXCEEDED", "UNAVAILABLE")  # statuses of a call that nobody answered


@dataclass
class Finding:
    """What one round of inferences showed."""

    ensembles: list[str] | None = None  # those that take photos; None: the server did not say
    trouble: dict[str, str] = field(default_factory=dict)  # what is wrong, by ensemble
    late: set[str] = field(default_factory=set)  # ensembles that did not answer in time
    silent: bool = False  # the server answers no call


def probe_ensembles(running: Running) -> Finding:
    """Send a photo through each ensemble that takes photos.

    They are looked up anew each time, since a canary comes and goes.
    """
    found = Finding()
    try:
        found.ensembles = running.photo_models()
        troubles = {model: _infer(running, model, found.late) for model in found.ensembles}
        known = running.ready_models()
    except InferenceServerException as error:
        found.silent = str(error.status()).endswith(SILENT)
        found.trouble = {"the server": error.message()}
        return found
    found.trouble = {m: trouble for m, trouble in troubles.items() if trouble and m in known}
    if not found.ensembles:
        found.trouble = {"any ensemble": "none that takes photos is loaded"}
    return found


def _infer(running: Running, model: str, late: set[str]) -> str:
    """Why an inference failed, empty if it succeeded; one without an answer is also `late`."""
    try:
        running.control.infer(model, PROBE_TIMEOUT)
    except InferenceServerException as error:
        if "DEADLINE" not in str(error.status()):
            return error.message()
        late.add(model)
        return f"no answer within {PROBE_TIMEOUT:.0f} s"
    return ""
