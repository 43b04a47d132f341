"""What the page says when something went wrong: a headline and a text, never a stack trace."""

import logging
from typing import Any

from client.errors import (
    DeadlineExceeded,
    DetectorError,
    InvalidImage,
    InvalidParameter,
    ServerUnavailable,
)

logger = logging.getLogger(__name__)


def message(headline: str, text: str, kind: str = "hint") -> dict[str, Any]:
    """A panel in the place of a result; `kind` is "hint" or "error". `code` may stand in both."""
    return {"headline": headline, "text": text, "kind": kind}


def explained(error: Exception, name: str, path: str = "") -> dict[str, Any]:
    """The message for what went wrong with the file of this name.

    Where it lies on this machine, its path, is nobody's business and left out. What nobody foresaw
    goes to the program's log; the page says only where to look.
    """
    if not isinstance(error, DetectorError):
        logger.error("the page failed at %s", name, exc_info=error)
        return message(
            "Something went wrong here",
            "That is a mistake of this page, not yours. Its log says more.",
            "error",
        )
    return message(*_headline_and_text(error, name, path), kind="error")


def _headline_and_text(error: DetectorError, name: str, path: str) -> tuple[str, str]:
    text = str(error).removeprefix("the image: ").removeprefix(f"{path}: ")
    text = text[:1].upper() + text[1:]
    match error:
        case ServerUnavailable() if error.retry_after is not None:
            return "The Triton server has too much to do", f"{text}. Try again in a moment."
        case ServerUnavailable():
            return "The Triton server is away", f"{text} Then try again."
        case DeadlineExceeded():
            return "The Triton server took too long", f"{text}. Try again when it is less busy."
        case InvalidImage():
            return f"{name} cannot be used", text
        case InvalidParameter():
            return "This setting cannot be used", str(error)  # starts with the setting's name
        case _:
            return "The Triton server reported a problem", text
