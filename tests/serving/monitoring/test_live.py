"""From photos to a verdict: a real server that measures, a real Prometheus that scrapes it."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.drift import encode_photos, measure_population, render_photos
from client import Detector
from serving.__main__ import main
from serving.monitoring.prometheus import Prometheus
from serving.server.server import EmbeddedServer, ServerSettings
from tests.conftest import wait_until
from tests.serving.conftest import copy_repository
from tests.serving.monitoring.past import Past, record_reference, reference_of, remembering
from training.network.onnx_network import load_onnx

SMEARS = 120  # in the reference: 65 are needed live
COUNT = "sum(ssd_image_brightness_count offset 2s)"  # what several scrapes have seen


class Watched:
    """A server, and the Prometheus that scrapes it."""

    def __init__(self, repository: Path, server: EmbeddedServer, url: str) -> None:
        self._repository, self._server, self.url = repository, server, url

    def send(self, files: Sequence[bytes]) -> None:
        """Send photos, and wait until Prometheus has heard of all."""
        prometheus = Prometheus(self.url)
        before = prometheus.find_value(COUNT) or 0
        with Detector(self._server.grpc_url) as detector:
            for file in files:
                detector.detect(file)
        wait_until(lambda: prometheus.find_value(COUNT) == before + len(files))

    def judge(self, *options: str) -> int:
        where = ["--prometheus", self.url, "--repository", str(self._repository)]
        return main(["drift", *where, "--window", "10m", *options])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Watched]:
    """A server whose version 1 was validated on smears."""
    repository = copy_repository(tmp_path / "models")
    network = load_onnx(repository / "ssd" / "1" / "model.onnx")
    usual = measure_population(network, encode_photos(render_photos(SMEARS, seed=0))).take(
        np.arange(SMEARS)
    )
    record_reference(repository, reference_of({name: each.values for name, each in usual.items()}))
    with (
        EmbeddedServer(ServerSettings(repository)) as server,
        remembering(tmp_path / "prometheus", Past(), server.metrics_url) as url,
    ):
        wait_until(lambda: Prometheus(url).find_value(COUNT) is not None)
        yield Watched(repository, server, url)


def darken(photo: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(photo, alpha=0.7)


def test_smears_then_dark_and_blurred_ones(
    served: Watched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert served.judge() == 4
    assert "not enough to tell: 0 images, " in capsys.readouterr().out

    served.send(encode_photos(render_photos(80, seed=1)))
    assert served.judge() == 0
    found = re.match(r"no drift: (\d+) images", capsys.readouterr().out)
    assert found
    assert 60 < int(found[1]) <= 80  # fewer while Prometheus has few scrapes, never more

    served.send(encode_photos(render_photos(120, seed=2), darken))
    assert served.judge("--picture", str(tmp_path / "moved.png")) == 3
    told = capsys.readouterr().out
    assert "  moved   brightness: median " in told
    assert (tmp_path / "moved.png").exists()
