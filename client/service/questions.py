"""Questions to a server: within one time for all, and what went wrong is kept."""

from collections.abc import Callable
from typing import Any

from tritonclient.utils import InferenceServerException

from client.transports.deadline import Deadline

SECONDS = 5.0  # that describing may take in all


def find_gateway(client: Any, seconds: float) -> str | None:
    """Return what a gateway before the servers calls itself, None where there is none.

    Triton itself does not send the header `server`.

    Args:
        client: of `client.server_api`; a tritonclient does not tell headers.
        seconds: that the question may take.
    """
    try:
        return client.get_headers(client_timeout=seconds).get("server") or None
    except (AttributeError, InferenceServerException):
        return None


class Questions:
    """Asks within one time for all, and keeps what went wrong."""

    def __init__(self, seconds: float) -> None:
        self.deadline = Deadline(seconds)
        self.reached = False
        self.untold: list[str] = []

    def ask(self, call: Callable[..., Any], *arguments: str) -> Any:
        """Return the answer, None where there is none."""
        try:
            return self.answer(call, *arguments)
        except InferenceServerException as error:
            reason = ((error.message() or "").strip() or "no reason given").splitlines()[0]
            question = call.__name__.removeprefix("get_").removeprefix("is_").replace("_", " ")
            self.untold.append(f"{' '.join([question, *arguments])}: {reason[:300]}")
            return None

    def answer(self, call: Callable[..., Any], *arguments: str) -> Any:
        """Return the answer, or raise InferenceServerException."""
        left = max(self.deadline.left(), 0.001)
        try:
            found = call(*arguments, client_timeout=left)
        except InferenceServerException as error:
            self.reached |= _is_servers_own(error)
            raise
        # Triton's metrics port, and other web servers, say yes to whatever is asked by HTTP.
        self.reached |= not isinstance(found, bool)
        return found


def _is_servers_own(error: InferenceServerException) -> bool:
    """Whether the server said it, not what tried to reach it."""
    status = str(error.status()).removeprefix("StatusCode.")
    elsewhere = status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN")
    return not elsewhere or "restricted" in (error.message() or "")
