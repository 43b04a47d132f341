"""Who is told what becomes of an image: OpenTelemetry, or nobody.

OpenTelemetry is optional, and never imported here before the program has: one that has not has set
no provider, to which anything could be told.
"""

import logging
import sys
from functools import cache
from types import ModuleType

from client.telemetry.observation import Observation

NOBODY = Observation()
logger = logging.getLogger("client.detector")


def observe_image(model: str) -> Observation:
    """Return what takes note of the next image for this model."""
    if "opentelemetry" not in sys.modules:
        return NOBODY
    spans = _find_spans()
    return spans.ImageSpan(model) if spans and spans.is_heard() else NOBODY


@cache
def _find_spans() -> ModuleType | None:
    try:
        from client.telemetry import spans  # only here: OpenTelemetry is optional
    except (ImportError, TypeError) as error:  # TypeError: it knows fewer arguments
        logger.warning("nothing is told: opentelemetry-api 1.30 or newer is needed (%s)", error)
        return None
    return spans
