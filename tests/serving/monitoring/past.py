"""Figures of photos that nobody sent: as a reference, and as what a real Prometheus remembers."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.history import Record, write_record
from serving.monitoring.histogram import Histogram
from serving.monitoring.statistic import Statistic
from serving.store.address import open_store
from tests.conftest import wait_until

LABELS = ("RBC", "WBC", "Platelets")
SCRAPE = 60  # seconds
EDGES = {
    "image_width_pixels": np.array([320.0, 640, 1280]),
    "image_height_pixels": np.array([320.0, 640, 1280]),
    "image_bytes": np.arange(10e3, 40e3, 2e3),
    "image_brightness": np.arange(8.0, 255, 8),
    "image_sharpness": np.arange(0.0, 400, 20),
    "detections_per_image": np.arange(0.0, 30),
    "detection_score": np.arange(0.5, 1, 0.025),
}
MEANS = dict(zip(LABELS, (12.0, 1.0, 1.5), strict=True))  # detections in a photo


def draw_photos(
    seed: int, images: int, brightness: float = 172, labels: Sequence[str] = LABELS
) -> dict[Statistic, Histogram]:
    """What is measured of some photos; the scores of one go up and down together."""
    rng = np.random.default_rng(seed)
    values = {
        Statistic("image_width_pixels"): np.full(images, 640),
        Statistic("image_height_pixels"): np.full(images, 480),
        Statistic("image_bytes"): rng.normal(20e3, 2e3, images),
        Statistic("image_brightness"): rng.normal(brightness, 12, images),
        Statistic("image_sharpness"): rng.lognormal(4.5, 0.4, images),
    }
    for label in labels:
        counts = rng.poisson(MEANS.get(label, 1), images)
        of_photo = np.repeat(rng.normal(0.8, 0.08, images), counts)
        values[Statistic("detections_per_image", label)] = counts
        values[Statistic("detection_score", label)] = rng.normal(of_photo, 0.03).clip(0.5, 1)
    return {statistic: count(EDGES[statistic.name], each) for statistic, each in values.items()}


def count(edges: np.ndarray, values: np.ndarray) -> Histogram:
    return Histogram(edges, np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1))


def reference_of(histograms: Mapping[Statistic, Histogram], **changes: Any) -> dict[str, Any]:
    """The entry of a card.json."""
    statistics: dict[str, Any] = {}
    for (name, label), each in histograms.items():
        entry = {"edges": each.edges.tolist(), "counts": each.counts.tolist()}
        if label:
            statistics.setdefault(name, {})[label] = entry
        else:
            statistics[name] = entry
    images = int(histograms[Statistic("image_brightness")].total)
    thresholds = {"score_threshold": 0.5, "iou_threshold": 0.45}
    return {"images": images} | thresholds | {"statistics": statistics} | changes


def record_reference(repository: Path, reference: dict[str, Any] | None, since: str = "") -> None:
    """Say that version 1 was published with this."""
    facts = {} if reference is None else {"reference": reference}
    record = Record({1: facts}, highest=1, lived=[1], since=since)
    write_record(open_store(str(repository)), "ensemble", record)


class Past:
    """What a Prometheus remembers: series by name, in OpenMetrics' text."""

    def __init__(self) -> None:
        self.now = time.time()
        self._series: dict[str, list[str]] = {}

    def add(self, name: str, labels: Mapping[str, str], values: Sequence[float]) -> None:
        """A series that was scraped every SCRAPE seconds, until now."""
        told = ",".join(f'{key}="{value}"' for key, value in labels.items())
        started = self.now - SCRAPE * (len(values) - 1)
        self._series.setdefault(name, []).extend(
            f"{name}{{{told}}} {value:g} {started + SCRAPE * number:.3f}"
            for number, value in enumerate(values)
        )

    def add_photos(self, histograms: Mapping[Statistic, Histogram], **labels: str) -> None:
        """A server that has seen these photos evenly in the last hour."""
        for statistic, each in histograms.items():
            model = "postprocess" if statistic.label else "preprocess"
            by = labels | {"model": model} | ({"label": statistic.label} if statistic.label else {})
            for edge, reached in zip([*each.edges, np.inf], np.cumsum(each.counts), strict=True):
                le = "+Inf" if np.isinf(edge) else f"{edge:g}"
                self.add(f"ssd_{statistic.name}_bucket", by | {"le": le}, _grow(reached))
            if not statistic.label:
                self.add(f"ssd_{statistic.name}_count", by, _grow(each.total))

    def text(self) -> str:
        """All of it."""
        return "".join(f"{line}\n" for lines in self._series.values() for line in lines) + "# EOF\n"


def _grow(to: float) -> list[float]:
    """A counter that goes from 0 evenly up, within an hour."""
    return [float(round(share * to)) for share in np.linspace(0, 1, 3600 // SCRAPE + 1)]


@contextmanager
def remembering(folder: Path, past: Past, target: str = "") -> Iterator[str]:
    """A real Prometheus with a past. Gives its address.

    Args:
        target: what it scrapes, every second.
    """
    if not (shutil.which("prometheus") and shutil.which("promtool")):
        pytest.skip("needs Prometheus: apt-get install prometheus")
    folder.mkdir(parents=True)
    job = {"job_name": "triton", "static_configs": [{"targets": [target]}]}
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job] if target else []}
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    (folder / "past.txt").write_text(past.text())
    fill = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", "past.txt", "data"]
    subprocess.run(fill, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    files = ["--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    command = ["prometheus", *files, f"--web.listen-address={address}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        wait_until(lambda: is_ready(f"http://{address}/-/ready"), 60, OSError)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


def is_ready(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)
