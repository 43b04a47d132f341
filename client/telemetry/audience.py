"""Who is told what becomes of an image: OpenTelemetry, or nobody.

OpenTelemetry is optional, and never imported here before the program has: one that has not has set
no provider, to which anything could be told.
"""

import sys

from client.telemetry.observation import Observation

NOBODY = Observation()


def observe_image(model: str) -> Observation:
    """Return what takes note of the next image for this model."""
    if "opentelemetry" not in sys.modules:
        return NOBODY
    from client.telemetry import spans  # only here: OpenTelemetry is optional

    return spans.ImageSpan(model) if spans.is_heard() else NOBODY
