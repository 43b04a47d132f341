"""What can go wrong with a detection.

    DetectorError
    ├── ServerUnavailable   nothing listens there, or the server takes no requests now
    ├── DeadlineExceeded    no answer within the timeout
    ├── ServerError         the server failed, lacks the model, or answered something else
    ├── InvalidImage        this image cannot be read, here or by the server
    └── InvalidParameter    a threshold, limit, timeout or address that makes no sense

Each message is one sentence or two for a person: no stack trace, no dump of gRPC's internals.
"""

# ruff: noqa: N818 (an error's name says what is the case, as httpx's do)

from __future__ import annotations

import re

from tritonclient.utils import InferenceServerException

PARAMETERS = ("score_threshold", "iou_threshold", "max_detections")

# Triton's HTTP port closes a gRPC connection just as a server does that ends.
BROKEN_OFF = "the connection broke off (the server ended, or this is not Triton's gRPC port)"

# What gRPC says of a connection, and what that means. Anything else came from the server itself.
CONNECTION = {
    "Connection refused": "nothing listens there",
    "resolv": "its name cannot be resolved",
    "HTTP/2": "it does not speak gRPC (Triton's HTTP port is another one)",
    "Socket closed": BROKEN_OFF,
    "onnection reset": BROKEN_OFF,
    "Broken pipe": BROKEN_OFF,
    "GOAWAY": BROKEN_OFF,
    "failed to connect": "no connection could be made",
}


class DetectorError(Exception):
    """Everything this package raises on purpose."""


class ServerUnavailable(DetectorError):
    """Nothing listens at the address, or the server takes no requests now."""


class DeadlineExceeded(DetectorError):
    """The server did not answer within the timeout."""


class ServerError(DetectorError):
    """The server failed, does not have the model, or its answer has other tensors."""


class InvalidImage(DetectorError):
    """The image cannot be read, here (no such file) or by the server (not an image)."""


class InvalidParameter(DetectorError, ValueError):
    """A threshold, limit, timeout or address that makes no sense."""


def from_grpc(
    error: InferenceServerException, *, address: str, image: str, timeout: float
) -> DetectorError:
    """Return the member of the tree that stands for a failed call.

    Args:
        error: what tritonclient raised.
        address: `host:port` of the server.
        image: what to call the image in a message.
        timeout: the call's limit in seconds.
    """
    said = _first_line(error.message())
    match str(error.status()).removeprefix("StatusCode."):
        case "UNAVAILABLE":
            return _unavailable(said, address)
        case "NOT_FOUND" if "no available versions" in said:  # unloaded: it stops, or reloads
            return _unavailable(said, address)
        case "DEADLINE_EXCEEDED":
            return DeadlineExceeded(
                f"{image}: no answer from {address} within {timeout:g} s (timeout)"
            )
        case "INVALID_ARGUMENT":
            return _invalid(said, address, image)
        case "CANCELLED":
            return ServerError(f"{image}: the request to {address} was cancelled")
    return ServerError(f"{image}: the server at {address} failed: {said}")


def _first_line(message: str | None) -> str:
    """Return what a person can read: a Python model's failure is followed by its stack trace."""
    lines = (message or "").strip().splitlines()
    # Through the ensemble every message of a step starts so.
    said = re.sub(r"^in ensemble '[^']*', ", "", lines[0]) if lines else "it gave no reason"
    return said[:300]


def _unavailable(said: str, address: str) -> ServerUnavailable:
    for fragment, meaning in CONNECTION.items():
        if fragment in said:
            return ServerUnavailable(
                f"no Triton server answers at {address}: {meaning}. "
                "Start one with `python -m serving up`, or give the address of another."
            )
    return ServerUnavailable(f"the server at {address} takes no requests now: {said}")


def _invalid(said: str, address: str, image: str) -> DetectorError:
    """Tell apart what INVALID_ARGUMENT stands for by what the server's message names."""
    if reason := re.search(r"\bimage \d+: (.+)", said):
        return InvalidImage(f"{image}: {reason[1]}")
    if any(parameter in said for parameter in PARAMETERS):
        return InvalidParameter(said)
    return ServerError(f"the model at {address} expects another request: {said}")
