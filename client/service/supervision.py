"""What `serving up` knows of the server that it keeps running, read from its metrics.

    told = parse_supervision(read_metrics("http://127.0.0.1:8003/metrics"))

Its gateway, a container, a server that others start have no such metrics; docs/monitoring.md.
"""

import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPException

from prometheus_client.parser import text_string_to_metric_families

from client.errors import InvalidParameter, ServerError, ServerUnavailable

MINUTE, TIME = "%Y-%m-%d %H:%M UTC", "%H:%M:%S UTC"
MOST = 2**22  # bytes of an answer
SILENCE = 60.0  # seconds without a probe, after which supervision itself hangs
# Nothing stands between: the environment's proxies are for the internet.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Supervision:
    """What stands in the metrics; times in seconds since 1970.

    Attributes:
        live: the live version of each ensemble, and since when it is known to be.
        failing: the ensembles whose last probe failed.
        probed: when the last probe ended; 0: there was none yet.
        restarts: how often what was replaced, "tritonserver" or a model, since `started`.
        store: whether the model repository can be read.
    """

    live: dict[str, tuple[int, float]]
    failing: list[str]
    probed: float
    restarts: dict[str, int]
    started: float
    store: bool

    def trouble(self) -> str:
        """What a person should see to; empty for nothing."""
        told = [f"the probe of {name} fails" for name in self.failing]
        told += [] if self.store else ["the model repository is away"]
        if self.probed and time.time() - self.probed > SILENCE:
            told.append(f"there was no probe since {_clock(self.probed)}")
        return ", ".join(told)

    def __str__(self) -> str:
        live = [f"{name} version {v} live since {_clock(t)}" for name, (v, t) in self.live.items()]
        probed = f"last probe {_clock(self.probed, TIME)}" if self.probed else "no probe yet"
        replaced = [f"{name} {count}" for name, count in self.restarts.items()]
        restarts = f"restarts since {_clock(self.started)}: {', '.join(replaced) or 'none'}"
        return "; ".join([*live, probed, restarts])


def read_metrics(url: str, seconds: float = 3.0) -> str:
    """The text of a metrics address.

    Args:
        url: such as http://127.0.0.1:8003/metrics.
        seconds: for each step of the way.

    Raises:
        InvalidParameter: it is no such address.
        ServerUnavailable: nobody answers there, or with an error.
    """
    if not url.startswith(("http://", "https://")):
        raise InvalidParameter(
            f"metrics_url must be like http://127.0.0.1:8003/metrics, but got {url!r}"
        )
    try:
        with OPENER.open(url, timeout=seconds) as answer:
            return str(answer.read(MOST).decode(errors="replace"))
    except (OSError, HTTPException, ValueError) as error:
        raise ServerUnavailable(f"no metrics can be read there ({error})") from None


def parse_supervision(text: str) -> Supervision:
    """What the metrics of `serving up` say.

    Raises:
        ServerError: they are others'.
    """
    try:
        families = list(text_string_to_metric_families(text))
    except ValueError:
        families = []
    samples = [sample for family in families for sample in family.samples]
    restarts: Counter[str] = Counter()
    for sample in samples:
        if sample.name == "ssd_restarts_total":
            restarts[sample.labels["model"] or "tritonserver"] += int(sample.value)
    if not restarts:
        raise ServerError("these are not the metrics of `serving up`")
    values = {sample.name: sample.value for sample in samples}
    live, since, success = (
        {each.labels["ensemble"]: each.value for each in samples if each.name == name}
        for name in ("ssd_live_version", "ssd_live_since_timestamp_seconds", "ssd_probe_success")
    )
    return Supervision(
        {name: (int(version), since.get(name, 0.0)) for name, version in live.items()},
        [name for name, value in success.items() if not value],
        values.get("ssd_last_probe_timestamp_seconds", 0.0),
        {name: count for name, count in restarts.items() if count},
        values.get("process_start_time_seconds", 0.0),
        values.get("ssd_store_reachable", 1.0) > 0,
    )


def _clock(seconds: float, form: str = MINUTE) -> str:
    return time.strftime(form, time.gmtime(seconds))
