"""Asks a Prometheus server by its HTTP API, https://prometheus.io/docs/prometheus/latest/querying/api/."""

import json
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from typing import Any, NamedTuple

from serving.errors import DriftError, first_line

SECONDS = 20.0  # that one answer may take


class Series(NamedTuple):
    """One series of an answer: its labels, and its value at the moment that was asked for."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """A Prometheus server.

    Args:
        url: its address, with the path that it may have behind a proxy.

    Raises:
        DriftError: that is none.
    """

    def __init__(self, url: str) -> None:
        if not _is_address(url):
            raise DriftError(
                f"--prometheus must be an address such as http://127.0.0.1:9090, found {url!r}"
            )
        self.url = url.rstrip("/")

    def query(self, expression: str) -> list[Series]:
        """The series that a PromQL expression gives now.

        Raises:
            DriftError: Prometheus does not answer, or refuses; or something else answers.
        """
        text = self._fetch(urllib.parse.urlencode({"query": expression}))
        try:
            answer = json.loads(text)
            status = answer["status"]
            if status == "success":
                return [_parse_series(each) for each in answer["data"]["result"]]
            refusal = answer["error"]
        except (ValueError, LookupError, TypeError):
            raise DriftError(
                f"{self.url} answers, but not as Prometheus does: expected JSON of its API, found "
                f"{text.strip()[:60]!r}: name Prometheus' own address with --prometheus"
            ) from None
        raise DriftError(f"Prometheus at {self.url} refuses {expression}: {refusal}")

    def find_value(self, expression: str) -> float | None:
        """The value of an expression that gives one series at most; None where it gives none.

        Raises:
            DriftError: as in `query`.
        """
        return next((each.value for each in self.query(expression)), None)

    def _fetch(self, query: str) -> str:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=SECONDS) as got:
                return str(got.read().decode(errors="replace"))
        except urllib.error.HTTPError as error:  # Prometheus refuses in JSON, too
            with error:
                return error.read().decode(errors="replace")
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise DriftError(
                f"Prometheus at {self.url} does not answer ({first_line(reason)}): does it run, "
                "and is --prometheus its address?"
            ) from None


def _is_address(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _parse_series(entry: dict[str, Any]) -> Series:
    _, value = entry["value"]
    return Series(dict(entry["metric"]), float(value))
