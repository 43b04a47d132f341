"""Judges at each scrape of a Prometheus, so that alerts see what `serving drift` would say."""

import signal
import threading
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.errors import DriftError, ServingError
from serving.lines import write_line
from serving.monitoring.metrics_port import MetricsPort
from serving.monitoring.verdict import UNTOLD, Verdict
from serving.monitoring.words import format_words

LABELS = ("statistic", "label")


class DriftCollector(Collector):
    """What a verdict says as gauges, made anew whenever it is asked for.

    Args:
        judge: what can be told now.
        say: takes what changes, in words.
    """

    def __init__(self, judge: Callable[[], Verdict], say: Callable[[str], None]) -> None:
        self._judge, self._say = judge, say
        self._said = ""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges; where nothing can be told, only how many images there are and that."""
        try:
            verdict = self._judge()
        except ServingError as error:
            verdict = Verdict(doubts=[str(error)])
        self._tell(verdict)
        judged = float(verdict.word != UNTOLD)
        yield GaugeMetricFamily("ssd_drift_judged", "Whether drift could be judged", judged)
        yield GaugeMetricFamily("ssd_drift_images", "Images in the window", verdict.images)
        yield GaugeMetricFamily("ssd_drift_images_needed", "Images to judge by", verdict.needed)
        families = {
            "moved": GaugeMetricFamily("ssd_drift_moved", "Whether it has moved", labels=LABELS),
            "distance": GaugeMetricFamily("ssd_drift_distance", "KS distance D", labels=LABELS),
            "p_value": GaugeMetricFamily("ssd_drift_p_value", "Adjusted p-value", labels=LABELS),
        }
        for found in verdict.findings:
            for name, family in families.items():
                family.add_metric(found.statistic, float(getattr(found, name)))
        yield from families.values()

    def _tell(self, verdict: Verdict) -> None:
        """Say what is found, if something else was before."""
        gist = f"{verdict.word} {[each.statistic for each in verdict.moved]}"
        if gist != self._said:
            self._said = gist
            self._say(format_words(verdict))


def export_verdicts(judge: Callable[[], Verdict], address: str, port: int) -> None:
    """Answer scrapes until a signal.

    Raises:
        DriftError: the port cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(DriftCollector(judge, write_line))
    try:
        own = MetricsPort(address, port, registry)
    except (OSError, OverflowError) as error:
        raise DriftError(f"--metrics-port {port} of {address} cannot be had: {error}") from None
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    write_line(f"ready: http://{address}:{own.server_port}/metrics")
    over.wait()
    own.close()
