"""What a server says of its ensemble: which versions answer, within which limits, how fast.

    with connect("127.0.0.1:8001") as client:  # of client.server_api
        service = describe(client)
        before = totals(client)
        result = detector.detect("photo.jpg")
        times = step_times(client, before, service.answered(result.model))

A tritonclient of one's own does as well. No admin key is needed: configurations, metadata and
statistics are open, unless the server restricts them. What it does not tell is None here. The file
of the labels is not told at all; `labels` finds them in answers.
"""

from client.service.description import Ensemble, Service, Settings, Step, describe, labels
from client.service.times import StepTimes, Totals, step_times, totals

__all__ = [
    "Ensemble",
    "Service",
    "Settings",
    "Step",
    "StepTimes",
    "Totals",
    "describe",
    "labels",
    "step_times",
    "totals",
]
