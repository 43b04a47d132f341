"""Which server and which versions answered, and where the time of an answer went."""

import html
from collections.abc import Callable, Mapping
from typing import Any

from client import Detector, DetectorError, Result
from client.server_api import connect
from client.service import Totals, describe, step_times, totals
from client.service.supervision import parse_supervision
from client.transports.addresses import parse_addresses

SECONDS = 1.0  # that asking may take, beside a request that may take longer


class Facts:
    """Asks servers of themselves, over connections of its own. Threads may share it.

    Args:
        detector: whose servers.
    """

    def __init__(self, detector: Detector) -> None:
        self._model = detector.model
        self._clients = {
            str(address): connect(str(address), detector.security)
            for address in parse_addresses(detector.url)
        }

    def iou_threshold(self, otherwise: float) -> float:
        """What the ensemble takes where a request names none, as the first that tells says."""
        clients = self._clients.values()
        services = (describe(client, self._model, SECONDS) for client in clients)
        told = (service.settings.iou_threshold for service in services)
        return next((value for value in told if value is not None), otherwise)

    def before(self) -> Mapping[str, Totals | None]:
        """What each server has counted; to be asked before the request."""
        return {server: totals(client, SECONDS) for server, client in self._clients.items()}

    def after(self, before: Mapping[str, Totals | None], result: Result) -> dict[str, Any]:
        """Who answered, and the time of each step since `before`.

        Returns:
            "server": one line. "versions": another, of what answered. "steps": each step of the
            ensemble with "model", "version" and "milliseconds" per request, null where the server
            does not tell.
        """
        client = self._clients[result.server]
        service = describe(client, seconds=SECONDS)
        steps = service.answered(result.model)
        told = step_times(client, before.get(result.server), steps, SECONDS)
        times = {time.model: time for time in told}
        name = f"{service.server or 'a server'} {service.version or ''}".strip()
        if service.gateway:
            name += f" behind {service.gateway}"
        return {
            "server": f"{name} at {result.server}",
            "versions": service.versions(result.model),
            "steps": [
                {
                    "model": step.model,
                    "version": step.version,
                    "milliseconds": times[step.model].total_ms if step.model in times else None,
                }
                for step in steps
            ],
        }

    def has(self, model: str) -> bool:
        """Whether all servers have it; where one cannot be asked, the request itself tells more."""
        return all(_has(client, model) for client in self._clients.values())


def describe_supervision(metrics: Callable[[], str]) -> str:
    """A line of HTML about what `serving up` knows of the server; empty where that is not told.

    Args:
        metrics: gives its metrics; may raise DetectorError.
    """
    try:
        told = parse_supervision(metrics())
    except DetectorError:
        return ""
    trouble = f"{told.trouble()}; " if told.trouble() else ""
    return f"<p>{html.escape(f'{trouble}{told}')}</p>"


def _has(client: Any, model: str) -> bool:
    try:
        return bool(client.is_model_ready(model, client_timeout=SECONDS))
    except Exception:
        return True
