"""What a real server shows in /metrics of known photos: exactly what the same code counts here."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format

from client import Detector, DetectorError, InvalidImage, InvalidParameter
from client.local import step_code
from client.local.model_folder import find_models
from serving.model_config import read_config
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.address import open_store
from tests.conftest import PROJECT, Samples, read_metrics, wait_until

REPOSITORY = PROJECT / "model_repository"
HEALTHCHECK = PROJECT / "deploy" / "docker" / "healthcheck.py"
PHOTOS = sorted((PROJECT / "samples").glob("*.jpg"))


def read_own(server: EmbeddedServer) -> Samples:
    """This project's series of the server's /metrics."""
    found = read_metrics(f"http://{server.metrics_url}/metrics").items()
    return {(written(n), labels): value for (n, labels), value in found if n.startswith("ssd_")}


def written(name: str) -> str:
    """A counter's name as the server writes it: the parser ends every one with _total."""
    part = name.removesuffix("_total")
    return part if part.endswith(("_bucket", "_sum", "_count")) else name


def read_one(server: EmbeddedServer, name: str, **labels: str) -> float:
    """A series' value; 0 for one that is not there."""
    return read_own(server).get((name, frozenset(labels.items())), 0)


def count_photos(server: EmbeddedServer) -> float:
    return read_one(server, "ssd_image_bytes_count", model="preprocess")


def count_answers(server: EmbeddedServer) -> float:
    labels = {"model": "postprocess", "label": "RBC"}
    return read_one(server, "ssd_detections_per_image_count", **labels)


def rejections(server: EmbeddedServer) -> dict[tuple[str, str], float]:
    """By model and reason."""
    return {
        (dict(labels)["model"], dict(labels)["reason"]): value
        for (name, labels), value in read_own(server).items()
        if name == "ssd_rejected_images_total"
    }


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., EmbeddedServer]]:
    """own_server(instances): a server that nobody else asks, over a copy of the repository."""
    servers = []

    def start(instances: int = 1) -> EmbeddedServer:
        models = Path(shutil.copytree(REPOSITORY, tmp_path / "models"))
        for name in ("preprocess", "postprocess"):
            config = read_config(open_store(models), name)
            config.instance_group[0].count = instances
            (models / name / "config.pbtxt").write_text(text_format.MessageToString(config))
        servers.append(EmbeddedServer(ServerSettings(models)))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def photos(encode: Callable[..., bytes]) -> list[bytes]:
    """The samples, one blurred and as PNG, and a black one without a single cell."""
    first = cv2.cvtColor(cv2.imread(str(PHOTOS[0])), cv2.COLOR_BGR2RGB)
    changed = [cv2.GaussianBlur(first, (0, 0), 3), np.zeros((30, 500, 3), np.uint8)]
    return [*(path.read_bytes() for path in PHOTOS), *(encode(each, "PNG") for each in changed)]


def count_offline(photos: list[bytes]) -> Samples:
    """The series of these photos, by the code of the two models' folders and the network."""
    models = find_models(REPOSITORY)
    loaded: dict[str, Any] = {
        name: step_code.load_module(step.version, name)
        for step, name in (
            (models.preprocess, "preprocessing"),
            (models.preprocess, "image_statistics"),
            (models.postprocess, "postprocessing"),
            (models.postprocess, "detection_statistics"),
        )
    }
    texts = models.postprocess.parameters
    settings = loaded["postprocessing"].parse_settings(texts)
    voting_iou = loaded["postprocessing"].parse_voting_iou(texts)
    images = loaded["image_statistics"].ImageStatistics()
    detections = loaded["detection_statistics"].DetectionStatistics(("RBC", "WBC", "Platelets"))
    session = onnxruntime.InferenceSession(models.network)
    for photo in photos:
        seen, sizes = loaded["preprocessing"].preprocess([photo], 300, 300, 10**8)
        boxes, scores = session.run(["boxes", "scores"], {"images": seen})
        found = loaded["postprocessing"].detect(
            boxes[0], scores[0], sizes[0], settings, "stretch", voting_iou
        )
        images.add([photo], seen, sizes)
        detections.add([found])
    return {
        (each.name + ending, frozenset({"model": model, **each.labels, **more}.items())): value
        for model, statistics in (("preprocess", images), ("postprocess", detections))
        for each in statistics.measured()
        for ending, more, value in each.values.samples()
    }


def test_live_is_what_the_same_code_says_offline(
    own_server: Callable[..., EmbeddedServer], photos: list[bytes]
) -> None:
    server = own_server()
    wait_until(lambda: read_own(server).keys() == count_offline([]).keys())
    assert set(read_own(server).values()) == {0}  # although the start asked a few times

    with Detector(server.grpc_url) as detector:
        for photo in photos:
            detector.detect(photo)
    wait_until(lambda: count_answers(server) == len(photos))

    expected = count_offline(photos)
    assert sum(value for (name, _), value in expected.items() if name == "ssd_detections_total") > 9
    wait_until(lambda: read_own(server) == pytest.approx(expected))
    found = read_own(server)
    for key in expected:
        assert key[0].endswith("_sum") or found[key] == expected[key], key


def test_what_is_refused_and_what_has_settings_of_its_own(
    own_server: Callable[..., EmbeddedServer], photos: list[bytes], hostile_files: dict[str, bytes]
) -> None:
    server = own_server()
    refused = {
        "empty": b"",
        "no_image": b"hello",
        "other_format": hostile_files["GIF"],
        "too_large": hostile_files["PNG that claims 400 megapixels"],
        "damaged": photos[0][:5000],
    }

    with Detector(server.grpc_url) as detector:
        for file in refused.values():
            with pytest.raises(InvalidImage):
                detector.detect(file)
        with pytest.raises(InvalidParameter):
            detector.detect(photos[0], score_threshold=2)
        detector.detect(photos[0], score_threshold=0.3)
        detector.detect(photos[0], score_threshold=0.5)  # the model's own

    wait_until(lambda: (count_photos(server), count_answers(server)) == (3, 1))
    expected = {("preprocess", reason): 1 for reason in refused} | {
        ("postprocess", "parameters"): 1
    }
    wait_until(lambda: rejections(server) == expected)
    assert read_one(server, "ssd_unmeasured_images_total", model="postprocess") == 1


def test_checks_of_the_service_are_not_counted(
    own_server: Callable[..., EmbeddedServer], photos: list[bytes]
) -> None:
    server = own_server()
    answered = threading.Semaphore(0)

    with server.control() as control:
        control.infer("ensemble", 10)
        for model in ("preprocess", "postprocess"):  # as stubs are checked
            control.ask(model, "", answered.release)
            assert answered.acquire(timeout=60)
    subprocess.run([sys.executable, HEALTHCHECK, server.http_url], check=True)
    with Detector(server.grpc_url) as detector:
        detector.detect(photos[0])

    wait_until(lambda: count_photos(server) and count_answers(server))
    assert (count_photos(server), count_answers(server)) == (1, 1)


def test_two_instances_add_up(
    own_server: Callable[..., EmbeddedServer], photos: list[bytes]
) -> None:
    server = own_server(instances=2)
    assert len(server.process.stubs()) >= 4

    with Detector(server.grpc_url) as detector:
        answers = detector.detect_many(itertools.repeat(photos[0], 40), concurrency=8)
        assert len(list(answers)) == 40

    wait_until(lambda: (count_photos(server), count_answers(server)) == (40, 40))


def test_counters_go_on_when_a_model_is_loaded_anew(
    own_server: Callable[..., EmbeddedServer], photos: list[bytes]
) -> None:
    """Both processes are there for a moment; what the old one counted last arrives as well."""
    server = own_server()
    models = Path(str(server.settings.repository))
    with Detector(server.grpc_url) as detector, server.control() as control:
        for name in ("preprocess", "postprocess"):
            detector.detect(photos[0])
            (models / name / "1" / "model.py").touch()
            control.load(name)
        detector.detect(photos[0])
        wait_until(lambda: (count_photos(server), count_answers(server)) == (3, 3))


def test_counters_go_on_when_a_model_is_unloaded_and_loaded(
    own_server: Callable[..., EmbeddedServer], photos: list[bytes]
) -> None:
    server = own_server()
    with Detector(server.grpc_url) as detector, server.control() as control:
        detector.detect(photos[0])
        control.unload("postprocess")
        wait_until(lambda: not control.versions("postprocess", "READY", "UNLOADING"))
        assert count_answers(server) == 1  # what was counted last
        control.load("ensemble")
        detector.detect(photos[0])
        wait_until(lambda: (count_photos(server), count_answers(server)) == (2, 2))


@pytest.mark.parametrize("model", ["preprocess", "postprocess"])
def test_counters_go_on_when_a_stub_is_killed(
    own_server: Callable[..., EmbeddedServer], photos: list[bytes], model: str
) -> None:
    server = own_server()
    with Detector(server.grpc_url) as detector:
        detector.detect(photos[0])
        wait_until(lambda: (count_photos(server), count_answers(server)) == (1, 1))
        (stub,) = (each for each in server.process.stubs() if each.model([model]) == model)
        os.kill(stub.pid, signal.SIGKILL)
        wait_until(lambda: detector.detect(photos[0]), retry=DetectorError)
        detector.detect(photos[0])
    wait_until(lambda: (count_photos(server) >= 3, count_answers(server)) == (True, 3))
