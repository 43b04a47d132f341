"""Which server and which versions answered, and where the time of an answer went."""

from __future__ import annotations

from typing import Any

from tritonclient.grpc import InferenceServerClient

from client.service import Totals, describe, step_times, totals

SECONDS = 1.0  # that asking may take, beside a request that may take longer


class Facts:
    """Asks the server of itself, over a connection of its own. Threads may share it.

    Args:
        url: the server's gRPC address, host:port.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = InferenceServerClient(url)

    def before(self) -> Totals | None:
        """What the server has counted; to be asked before the request."""
        return totals(self.client, SECONDS)

    def after(self, before: Totals | None, model: str) -> dict[str, Any]:
        """Who answered, and the time of each step since `before`.

        Returns:
            "server": one line. "steps": each step of the ensemble `model` with "model", "version"
            and "milliseconds" per request, null where the server does not tell.
        """
        service = describe(self.client, seconds=SECONDS)
        steps = service.answered(model)
        times = {time.model: time for time in step_times(self.client, before, steps, SECONDS)}
        name = f"{service.server or 'a server'} {service.version or ''}".strip()
        return {
            "server": f"{name} at {self.url}",
            "steps": [
                {
                    "model": step.model,
                    "version": step.version,
                    "milliseconds": times[step.model].total_ms if step.model in times else None,
                }
                for step in steps
            ],
        }
