"""How far back figures are looked at: a release changes them, and their reference with them.

Servers that `serving up` runs tell Prometheus which version each serves. Where it knows none of
them, the repository tells, with the time that its releases.json has.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from serving.errors import DriftError, UntoldError
from serving.history import Record
from serving.monitoring.prometheus import Prometheus
from serving.repository import Repository

SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
STEP = 15  # seconds between two looks at the past; in as many, all counted before is handed over


@dataclass(frozen=True)
class Window:
    """The time in which what is served has not changed.

    Attributes:
        live: the version that is live.
        canary: that of the canary, 0 for none.
        seconds: since when, but no more than were asked for.
    """

    live: int
    canary: int
    seconds: int


def parse_seconds(text: str, option: str = "--window") -> int:
    """Seconds of a time such as 90s, 30m, 1h or 7d, which an option was given.

    Raises:
        DriftError: it is none.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text)
    if found is None:
        raise DriftError(f"{option} must be such as 30m, 1h or 7d, found {text!r}")
    return int(found[1]) * SECONDS[found[2]]


def find_window(
    prometheus: Prometheus, selector: str, repository: Repository, record: Record, most: int
) -> Window:
    """What is served now, and for how long.

    Args:
        prometheus: who scrapes the servers.
        selector: PromQL's matchers of their series.
        repository: what they serve.
        record: of its releases.
        most: seconds to look back.

    Raises:
        UntoldError: servers serve different versions.
        ServingError: Prometheus or the repository does not answer.
    """
    labels = f'{{model="{repository.task.network}"{selector}}}'
    told = _read_versions(prometheus, labels)
    ages = [float(most)]
    if told is None:
        state = repository.state()
        told = state.live, state.canary or 0
    else:
        ages += _read_ages(prometheus, labels, *told, most)
    ages += _read_recorded_ages(record, told[0])
    return Window(*told, max(0, int(min(ages))))


def _read_versions(prometheus: Prometheus, labels: str) -> tuple[int, int] | None:
    """The live version and the canary's, 0 for none; None where Prometheus knows of no server."""
    live = {int(each.value) for each in prometheus.query(f"ssd_live_version{labels}")}
    if not live:
        return None
    if len(live) > 1:
        raise UntoldError(
            f"some servers serve version {' and some '.join(map(str, sorted(live)))}: a release is "
            "under way, or one missed it (`python -m serving releases --url` tells which)"
        )
    canaries = [each.value for each in prometheus.query(f"ssd_canary_version{labels}")]
    return live.pop(), int(max(canaries, default=0))


def _read_ages(
    prometheus: Prometheus, labels: str, live: int, canary: int, most: int
) -> list[float]:
    """How long ago, in seconds, a server last served something else; empty: not in this time."""
    last = prometheus.query(
        f"time() - max(max_over_time((timestamp(ssd_live_version{labels} != {live})"
        f" or timestamp(ssd_canary_version{labels} != {canary}))[{most}s:{STEP}s]))"
    )
    return [each.value - STEP for each in last]


def _read_recorded_ages(record: Record, live: int) -> list[float]:
    """How long ago, in seconds, the repository last changed; empty where it does not say."""
    text = record.since or record.versions.get(live, {}).get("published", "")
    try:
        return [(datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds() - STEP]
    except (ValueError, TypeError):  # none, or one without a zone
        return []
