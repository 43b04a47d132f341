"""What can go wrong with a detection.

    DetectorError
    ├── ServerUnavailable   nothing listens there, or the server takes no requests now
    ├── DeadlineExceeded    no answer within the timeout
    ├── ServerError         the server failed, lacks the model, or answered something else
    ├── InvalidImage        this image cannot be read, here or by the server
    ├── InvalidParameter    a threshold, limit, timeout or address that makes no sense
    └── BucketError         a bucket is away, too slow, denies access, or failed
        └── MissingObject       it has no such object

Each message is one sentence or two for a person: no stack trace, no dump of gRPC's internals. They
are the same whether the server was asked by gRPC or by HTTP.
"""

# ruff: noqa: N818 (an error's name says what is the case, as httpx's do)

import re

from tritonclient.utils import InferenceServerException

PARAMETERS = ("score_threshold", "iou_threshold", "max_detections")

# What is said of a connection by gRPC, Python's sockets and its TLS, and what that means. Anything
# else came from the server itself. The port of the other protocol closes a connection just as a
# server does that ends.
BROKEN_OFF = "the connection broke off (the server ended, or this is not Triton's {protocol} port)"
NOT_TLS = "it does not speak TLS"
CONNECTION = {
    "Connection refused": "nothing listens there",
    "resolv": "its name cannot be resolved",
    "name resolution": "its name cannot be resolved",
    "Name or service not known": "its name cannot be resolved",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is for another name, or its signer "
    "is not trusted (Security.ca)",
    "certificate required": "it wants a certificate from the client (Security.certificate)",
    "CERTIFICATE_REQUIRED": "it wants a certificate from the client (Security.certificate)",
    "WRONG_VERSION_NUMBER": NOT_TLS,
    "HTTP/2": "it does not speak gRPC (Triton's HTTP port is another one)",
    "illegal ": "it does not speak HTTP (Triton's gRPC port is another one)",
    "Socket closed": BROKEN_OFF,
    "onnection reset": BROKEN_OFF,
    "Broken pipe": BROKEN_OFF,
    "GOAWAY": BROKEN_OFF,
    "disconnected without": BROKEN_OFF,
    "UNEXPECTED_EOF": BROKEN_OFF,
    "endpoint is not connected": BROKEN_OFF,
    "failed to connect": "no connection could be made ({said})",
}


class Refused(Exception):
    """How a transport tells of a failed request: in gRPC's statuses, whatever the protocol.

    Attributes:
        status: such as UNAVAILABLE.
        said: by the server, or by what failed before it.
        retry_after: seconds after which the server asks to be tried again, None: it does not ask.
        http_status: of the answer, None: there was none, or it came by gRPC.
    """

    http_status: int | None = None

    def __init__(self, status: str, said: str, retry_after: float | None = None) -> None:
        super().__init__(status, said)
        self.status = status
        self.said = said
        self.retry_after = retry_after


class NotTriton(Refused):
    """An error of HTTP that is not in Triton's words: a proxy or another program answers."""


class DetectorError(Exception):
    """Everything this package raises on purpose."""


class ServerUnavailable(DetectorError):
    """Nothing listens at the address, or the server takes no requests now.

    Attributes:
        retry_after: seconds after which it asks to be tried again, None: it does not say.
    """

    retry_after: float | None = None


class DeadlineExceeded(DetectorError):
    """The server did not answer within the timeout."""


class ServerError(DetectorError):
    """The server failed, does not have the model, or its answer has other tensors."""


class InvalidImage(DetectorError):
    """The image cannot be read, here (no such file) or by the server (not an image)."""


class InvalidParameter(DetectorError, ValueError):
    """A threshold, limit, timeout or address that makes no sense."""


class BucketError(DetectorError, OSError):
    """A bucket is away, too slow, denies access, or failed.

    An OSError, too: what keeps files deals with both, wherever they lie.
    """


class MissingObject(BucketError, FileNotFoundError):
    """The bucket has no such object."""


def from_grpc(
    error: InferenceServerException, *, address: str, image: str, timeout: float
) -> DetectorError:
    """Return the member of the tree that stands for what tritonclient raised: see `explained`."""
    refused = Refused(str(error.status()).removeprefix("StatusCode."), error.message() or "")
    return explained(refused, address=address, image=image, timeout=timeout)


def explained(
    refused: Refused, *, address: str, image: str, timeout: float, protocol: str = "gRPC"
) -> DetectorError:
    """Return the member of the tree that stands for a failed call.

    Args:
        refused: what the transport raised.
        address: of the server.
        image: what to call the image in a message.
        timeout: the call's limit in seconds.
        protocol: gRPC or HTTP.
    """
    said = _first_line(refused.said)
    match refused.status:
        case "UNAVAILABLE" if "restricted" in said:  # how Triton asks for its key
            return _locked(said, address)
        case "UNAVAILABLE" if "timeout expired" in said:  # while it waited in the server
            return _late(address, image, timeout)
        case "RESOURCE_EXHAUSTED" if refused.retry_after is None:  # a size that never passes
            return InvalidImage(f"{image}: larger than the server at {address} accepts: {said}")
        case "UNAVAILABLE" | "RESOURCE_EXHAUSTED":
            error = _unavailable(said, address, protocol)
            error.retry_after = refused.retry_after
            return error
        case "NOT_FOUND" if "no available versions" in said:  # unloaded: it stops, or reloads
            return _unavailable(said, address, protocol)
        case "DEADLINE_EXCEEDED":
            return _late(address, image, timeout)
        case "INVALID_ARGUMENT":
            return _invalid(said, address, image)
        case "PERMISSION_DENIED" if "gateway" in said:  # no key opens what it does not pass on
            return ServerError(f"{image}: not let through at {address}: {said}")
        case "UNAUTHENTICATED" | "PERMISSION_DENIED":
            return _locked(said, address)
        case "CANCELLED":
            return ServerError(f"{image}: the request to {address} was cancelled")
    return ServerError(f"{image}: the server at {address} failed: {said}")


def _first_line(message: str) -> str:
    """Return what a person can read: a Python model's failure is followed by its stack trace."""
    lines = message.strip().splitlines()
    # Through the ensemble every message of a step starts so.
    said = re.sub(r"^in ensemble '[^']*', ", "", lines[0]) if lines else "it gave no reason"
    return said[:300]


def _unavailable(said: str, address: str, protocol: str) -> ServerUnavailable:
    for fragment, meaning in CONNECTION.items():
        if fragment in said:
            reason = meaning.format(protocol=protocol, said=said)
            return ServerUnavailable(
                f"no Triton server answers at {address}: {reason}. "
                "Start one with `python -m serving up`, or give the address of another."
            )
    return ServerUnavailable(f"the server at {address} takes no requests now: {said}")


def _late(address: str, image: str, timeout: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"{image}: no answer from {address} within {timeout:g} s (timeout)")


def _locked(said: str, address: str) -> ServerError:
    return ServerError(f"the server at {address} wants another key (Security.api_key): {said}")


def _invalid(said: str, address: str, image: str) -> DetectorError:
    """Tell apart what INVALID_ARGUMENT stands for by what the server's message names."""
    if reason := re.search(r"\bimage \d+: (.+)", said):
        return InvalidImage(f"{image}: {reason[1]}")
    if any(parameter in said for parameter in PARAMETERS):
        return InvalidParameter(said)
    return ServerError(f"the model at {address} expects another request: {said}")
