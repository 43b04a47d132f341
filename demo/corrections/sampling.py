"""Photos that the model is least sure of, kept without a visitor's doing: only where asked for."""

import logging
from collections.abc import Sequence
from functools import partial

from client import InvalidImage
from client.inbox.inbox import InboxError
from client.inbox.samples import Samples
from demo.photos import Found

logger = logging.getLogger(__name__)


def keep_unsure(samples: Samples, found: Sequence[Found]) -> None:
    """Offer what was found; whatever comes of it, the visitor has the answer."""
    for path, result, version in found:
        if result is None:
            continue
        try:
            samples.offer(path, result, partial(str, version))
        except (InboxError, InvalidImage) as error:
            logger.error("a photo that the model is unsure of is not kept: %s", error)
