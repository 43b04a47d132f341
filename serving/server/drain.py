"""The last seconds of a server: new requests are refused, those in flight finish."""

import threading
import time

from tritonclient.utils import InferenceServerException

from serving import lines
from serving.server.plan import Report
from serving.server.running import Running


def drain(running: Running, seconds: float, hurry: threading.Event, report: Report) -> None:
    """Refuse new requests and let those in flight finish, for so long or until `hurry` is set.

    Ending tritonserver alone would fail them: the next step of an ensemble is refused as soon
    as it is told to end. An unloaded ensemble refuses new requests with NOT_FOUND, finishes
    the old ones, and only then counts as unloaded.
    """
    deadline = time.monotonic() + seconds
    try:
        ensembles = running.ensembles()
        for model in ensembles:
            running.control.unload(model)
    except InferenceServerException as error:
        report(lines.warning(f"could not drain: {error.message()}"))
        return
    try:
        while ensembles & set(running.control.models("READY", "UNLOADING")):
            if time.monotonic() > deadline or hurry.is_set():
                report(lines.warning("requests still in flight were given up"))
                break
            time.sleep(0.05)
    except InferenceServerException:
        # The call asks the repository, which is away: seconds have passed.
        told = "requests in flight had 5 s: with its repository away the server cannot tell"
        report(lines.warning(told))
