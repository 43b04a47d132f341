"""Verdicts as gauges: what alerts see."""

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving.errors import DriftError, StoreError
from serving.monitoring.exporter import DriftCollector, export_verdicts
from serving.monitoring.figures import make_samples
from serving.monitoring.verdict import Verdict, judge_samples
from tests.serving.monitoring.past import draw_photos


def judged(images: int, brightness: float) -> Verdict:
    verdict = Verdict(version=2, seconds=3600)
    live, reference = draw_photos(1, images, brightness), draw_photos(0, 58)
    judge_samples(verdict, make_samples(live), make_samples(reference))
    return verdict


def gauges(text: str) -> dict[tuple[str, str, str], float]:
    """The values by name, statistic and label."""
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
    return {
        (each.name, each.labels.get("statistic", ""), each.labels.get("label", "")): each.value
        for each in samples
    }


class Exported:
    """What a scrape shows of a verdict that may change, and what is said meanwhile."""

    def __init__(self) -> None:
        self.verdict: Verdict | Exception = Verdict()
        self.said: list[str] = []
        self.registry = CollectorRegistry()
        self.registry.register(DriftCollector(self.judge, self.said.append))

    def judge(self) -> Verdict:
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict

    def scrape(self) -> dict[tuple[str, str, str], float]:
        return gauges(generate_latest(self.registry).decode())


def test_nothing_can_be_told() -> None:
    exported = Exported()
    exported.verdict = StoreError("s3://models does not answer")
    assert exported.scrape() == {
        ("ssd_drift_judged", "", ""): 0,
        ("ssd_drift_images", "", ""): 0,
        ("ssd_drift_images_needed", "", ""): 0,
    }
    assert "s3://models does not answer" in exported.said[0]
    exported.verdict = judged(40, 172)
    found = exported.scrape()
    assert found["ssd_drift_judged", "", ""] == 0
    assert found["ssd_drift_images", "", ""] == 40
    assert found["ssd_drift_images_needed", "", ""] == 140


def test_what_moved() -> None:
    exported = Exported()
    exported.verdict = judged(400, 140)
    found = exported.scrape()
    assert found["ssd_drift_judged", "", ""] == 1
    assert found["ssd_drift_moved", "image_brightness", ""] == 1
    assert found["ssd_drift_distance", "image_brightness", ""] == pytest.approx(0.81, abs=0.05)
    assert found["ssd_drift_p_value", "image_brightness", ""] < 1e-9
    assert found["ssd_drift_moved", "detections_per_image", "RBC"] == 0
    assert found["ssd_drift_p_value", "detection_score", "RBC"] > 0.01


def test_what_changes_is_said_once() -> None:
    exported = Exported()
    for verdict in (judged(400, 172), judged(401, 172), judged(400, 140), judged(400, 141)):
        exported.verdict = verdict
        exported.scrape()
    assert [line.split(":")[0] for line in exported.said] == ["no drift", "drift"]


@pytest.mark.parametrize(
    ("address", "port"), [("127.0.0.1", 70000), ("192.0.2.1", 0), ("no address", 0)]
)
def test_a_port_that_cannot_be_had(address: str, port: int) -> None:
    with pytest.raises(DriftError, match=rf"--metrics-port {port} of {address} cannot be had: "):
        export_verdicts(Verdict, address, port)


def test_until_a_signal(project_repository: Path) -> None:
    options = ["--prometheus", "http://127.0.0.1:1", "--repository", str(project_repository)]
    command = [sys.executable, "-m", "serving", "drift", *options, "--metrics-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        head = process.stdout.readline()
        assert head.startswith("ready: http://127.0.0.1:")
        with urllib.request.urlopen(head.split()[1], timeout=30) as answer:
            found = gauges(answer.read().decode())
        process.send_signal(signal.SIGTERM)
        assert "Prometheus at http://127.0.0.1:1 does not answer" in process.stdout.read()
    assert found == {
        ("ssd_drift_judged", "", ""): 0,
        ("ssd_drift_images", "", ""): 0,
        ("ssd_drift_images_needed", "", ""): 0,
    }
    assert process.returncode == 0
