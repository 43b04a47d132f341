import pytest
from tritonclient.utils import InferenceServerException

from client import errors

WHERE = {"address": "10.0.0.1:8001", "image": "a.jpg"}


def explained(status: str, message: str | None) -> errors.DetectorError:
    error = InferenceServerException(message, f"StatusCode.{status}", "debug details")
    return errors.from_grpc(error, timeout=2.5, **WHERE)


@pytest.mark.parametrize(
    ("status", "message", "kind", "text"),
    [
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNKNOWN: Connection refused",
            errors.ServerUnavailable,
            "no Triton server answers at 10.0.0.1:8001: nothing listens there",
        ),
        ("UNAVAILABLE", "errors resolving x:1: [field:y]", errors.ServerUnavailable, "its name"),
        ("UNAVAILABLE", "Socket closed", errors.ServerUnavailable, "the connection broke off"),
        (
            "UNAVAILABLE",
            "failed to connect: Too many open files",
            errors.ServerUnavailable,
            "no connection could be made (failed to connect: Too many open files)",
        ),
        (
            "UNAVAILABLE",
            "Server is stopping",
            errors.ServerUnavailable,
            "10.0.0.1:8001 takes no requests now: Server is stopping",
        ),
        (
            "DEADLINE_EXCEEDED",
            "Deadline Exceeded",
            errors.DeadlineExceeded,
            "a.jpg: no answer from 10.0.0.1:8001 within 2.5 s",
        ),
        (
            "INVALID_ARGUMENT",
            "in ensemble 'ensemble', image 0: truncated JPEG",
            errors.InvalidImage,
            "a.jpg: truncated JPEG",
        ),
        (
            "INVALID_ARGUMENT",
            "in ensemble 'ensemble', score_threshold must be 0 to 1, but is 7",
            errors.InvalidParameter,
            "score_threshold must be 0 to 1, but is 7",
        ),
        (
            "INVALID_ARGUMENT",
            "unexpected inference input 'image' for model 'ensemble'",
            errors.ServerError,
            "expects another request: unexpected inference input 'image'",
        ),
        ("CANCELLED", "Channel closed!", errors.ServerError, "was cancelled"),
        (
            "NOT_FOUND",
            "Request for unknown model: 'x' is not found",
            errors.ServerError,
            "Request for unknown model: 'x' is not found",
        ),
        (
            "NOT_FOUND",
            "Request for unknown model: 'x' has no available versions",
            errors.ServerUnavailable,
            "takes no requests now: Request for unknown model: 'x' has no available versions",
        ),
        (
            "INTERNAL",
            "Failed to process\n\nAt:\n  /models/1/model.py(3): execute",
            errors.ServerError,
            "a.jpg: the server at 10.0.0.1:8001 failed: Failed to process",
        ),
        ("UNKNOWN", None, errors.ServerError, "it gave no reason"),
        (
            "UNAVAILABLE",
            "This protocol is restricted, expecting header 'triton-grpc-protocol-key'",
            errors.ServerError,
            "10.0.0.1:8001 wants another key (Security.api_key): This protocol is restricted",
        ),
        (
            "UNAVAILABLE",
            "in ensemble 'ensemble', Request timeout expired",
            errors.DeadlineExceeded,
            "a.jpg: no answer from 10.0.0.1:8001 within 2.5 s",
        ),
        ("UNAUTHENTICATED", "HTTP status 401", errors.ServerError, "wants another key"),
        ("PERMISSION_DENIED", "HTTP status 403", errors.ServerError, "wants another key"),
        (
            "RESOURCE_EXHAUSTED",
            "HTTP status 413",
            errors.InvalidImage,
            "a.jpg: larger than the server at 10.0.0.1:8001 accepts: HTTP status 413",
        ),
    ],
)
def test_each_status_has_its_kind_and_its_words(
    status: str, message: str | None, kind: type, text: str
) -> None:
    error = explained(status, message)
    assert type(error) is kind
    assert text in str(error)
    assert "in ensemble" not in str(error)


@pytest.mark.parametrize("protocol", ["gRPC", "HTTP"])
def test_a_connection_that_breaks_off_may_be_the_wrong_port(protocol: str) -> None:
    refused = errors.Refused("UNAVAILABLE", "Socket closed")
    error = errors.explained(refused, timeout=1, protocol=protocol, **WHERE)
    assert f"or this is not Triton's {protocol} port" in str(error)


@pytest.mark.parametrize("status", ["UNAVAILABLE", "INTERNAL", "INVALID_ARGUMENT"])
def test_a_message_holds_neither_stack_trace_nor_debug_details(status: str) -> None:
    text = str(explained(status, "it broke\n\nAt:\n  /models/1/model.py(3): execute"))
    assert "model.py" not in text
    assert "debug details" not in text
    assert "StatusCode" not in text
