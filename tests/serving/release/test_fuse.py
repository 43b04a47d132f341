"""Two networks served as one model: its answers, its errors, and what releases do to it."""

import os
import signal
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import onnx
import pytest

from client import Box, Detector, DetectorError, InvalidParameter, LocalDetector
from serving.control import sample_photo
from serving.errors import PublishError
from serving.history import read_record
from serving.release.fuse import FuseSettings, fuse
from serving.repository import list_tasks, open_repository
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.address import open_store
from tests.conftest import wait_until
from tests.serving.conftest import copy_repository
from tests.serving.release.conftest import LOWER, SAMPLES, failing
from tests.serving.release.test_publish import contents, release
from tests.serving.service import Service
from tests.serving.tiny_network import LABELS, fail_at, network, write_artifact

FUSED = (0.25, 0.25, 0.75, 0.25 + (0.9 * 0.5 + 0.7 * 0.31) / 1.6)  # of the photo, xyxy


def add_version(repository: Path, model: onnx.ModelProto) -> int:
    """Place a version of ssd by hand, which nobody serves. Returns its number."""
    number = 1 + max(int(path.name) for path in (repository / "ssd").glob("[0-9]*"))
    (repository / "ssd" / str(number)).mkdir()
    onnx.save(model, repository / "ssd" / str(number) / "model.onnx")
    return number


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Ensembles `ensemble`, .9, and `road`, .7, and a fusion of the two, made while it served."""
    folder = tmp_path_factory.mktemp("fuse")
    repository = copy_repository(folder / "models", score=0.9)
    config = repository / "ssd" / "config.pbtxt"  # one process a version starts sooner than two
    config.write_text(config.read_text().replace("KIND_CPU count: 2", "KIND_CPU count: 1"))
    release(write_artifact(folder / "road", keep=30, score=0.7, box=LOWER), repository,
            model="road", new=True)  # fmt: skip
    # Triton does not forget a request of which one network failed, and would be waited for.
    with EmbeddedServer(ServerSettings(repository, drain_seconds=1)) as server:
        own = Service(repository, server)
        fuse_members(own, "ensemble", "road")
        yield own


def fuse_members(service: Service, *members: str, **settings: Any) -> None:
    fuse(FuseSettings(members=members, **(service.where() | settings)))


def test_photos_get_fused_boxes(service: Service) -> None:
    with Detector(service.url, model="fused") as detector:
        result = detector.detect(SAMPLES[0])

    (found,) = result.detections
    size = (result.width, result.height) * 2
    expected = Box(*(part * side for part, side in zip(FUSED, size, strict=True)))
    assert found.score == pytest.approx(0.8, abs=2e-3)
    assert astuple(found.box) == pytest.approx(astuple(expected), abs=0.1)
    assert (found.label, result.model) == ("RBC", "fused")


def test_the_log_of_each_member_tells_of_it(service: Service) -> None:
    store = open_store(service.repository)
    for member in ("ensemble", "road"):
        *_, told = read_record(store, member).log
        assert told["why"] == "fused fuses ensemble version 1 and road version 1"
        assert told["before"] == told["after"] == {"live": 1, "canary": None, "share": 0.0}


def test_requests_may_ask_as_they_ask_any_ensemble(service: Service) -> None:
    with Detector(service.url, model="fused") as detector:
        assert detector.detect(SAMPLES[0], score_threshold=0.85).detections == ()
        for most in (3, 2):
            result = detector.detect(SAMPLES[0], score_threshold=0, max_detections=most)
            assert len(result.detections) == most
        with pytest.raises(InvalidParameter, match=r"iou_threshold is 2\.0, a number from 0 to 1"):
            detector.detect(SAMPLES[0], iou_threshold=2)
        with pytest.raises(DetectorError, match="not an image"):
            detector.detect(b"hello")


def test_without_a_server_the_same_to_the_last_bit(service: Service) -> None:
    with (
        Detector(service.url, model="fused") as served,
        LocalDetector(service.repository, model="fused") as local,
    ):
        for photo in SAMPLES:
            for threshold in (0, 0.5):
                one, other = (
                    each.detect(photo, score_threshold=threshold) for each in (served, local)
                )
                assert one == other
                assert one.detections
    with pytest.raises(InvalidParameter, match="fuses 2 networks and names a version of each"):
        LocalDetector(service.repository, model="fused", version=1)


def test_a_release_of_a_member_leaves_it_until_it_is_fused_anew(
    service: Service, tmp_path: Path
) -> None:
    better = write_artifact(tmp_path / "better", score=0.5)
    with service.used("ensemble", "fused") as scores:
        release(better, service.repository, keep=1, url=service.url,
                admin_key=service.server.admin_key)  # fmt: skip
        assert (service.score(), service.score("fused")) == (0.5, 0.8)
        assert service.repository.joinpath("ssd/1/model.onnx").exists()  # held, although keep is 1
        fuse_members(service, "ensemble", "road")
        assert service.score("fused") == 0.6
        fuse_members(service, "ensemble:1", "road")
        assert service.score("fused") == 0.8
    assert scores <= {0.9, 0.5, 0.8, 0.6}
    assert open_repository(open_store(service.repository), "ensemble").state().live == 2


def test_what_fails_is_undone(service: Service) -> None:
    """A network that fails on the photo by which a fusion is confirmed, and on no other."""
    broken = network(300, 400, 3)
    fail_at(broken.graph, 0.6, 0.675)
    number = add_version(service.repository, broken)
    before = contents(service.repository)

    for model in ("other", "fused"):
        with pytest.raises(PublishError, match="Gather"):
            fuse_members(service, f"ensemble:{number}", "road", model=model)

        assert contents(service.repository) == before
        assert service.score("fused") == 0.8
    with service.server.control() as control:
        assert str(number) not in control.versions("ssd", "READY")
        assert not any(name.startswith("other") for name in control.models("READY"))


def test_half_a_fusion_is_replaced(service: Service) -> None:
    """What a killed publisher left: the first of the two models."""
    service.repository.joinpath("half_postprocess").mkdir()
    for file in ("config.pbtxt", "labels.txt"):
        text = service.repository.joinpath("fused_postprocess", file).read_text()
        text = text.replace("fused_postprocess", "half_postprocess").replace("0.55", "0.99")
        service.repository.joinpath("half_postprocess", file).write_text(text)

    fuse_members(service, "ensemble:1", "road", model="half")

    assert service.score("half") == 0.8


def test_a_member_that_fails_is_an_error_not_half_an_answer(service: Service) -> None:
    number = add_version(service.repository, failing(network(300, 400, 3)))
    fuse_members(service, "ensemble:1", f"ensemble:{number}", model="fragile")

    with Detector(service.url, model="fragile", retries=0) as detector:
        assert detector.detect(sample_photo()).detections[0].score == pytest.approx(0.9, abs=2e-3)
        for photo in SAMPLES:
            with pytest.raises(DetectorError, match="Gather"):
                detector.detect(photo)
    assert service.score("ensemble") in (0.5, 0.9)


def test_a_member_that_dies_is_an_error_until_it_is_replaced(service: Service) -> None:
    models = ["preprocess", "ssd", "postprocess"]
    models += [f"road_{name}" for name in models] + ["fused_postprocess"]
    dead = [stub for stub in service.server.process.stubs() if stub.model(models) == "road_ssd"]
    assert dead
    for stub in dead:
        os.kill(stub.pid, signal.SIGKILL)

    with Detector(service.url, model="fused", retries=0) as detector:
        with pytest.raises(DetectorError, match="road_ssd"):
            detector.detect(sample_photo())
        assert service.score("ensemble") in (0.5, 0.9)
        answer = wait_until(lambda: detector.detect(sample_photo()), retry=DetectorError)
    assert round(answer.detections[0].score, 2) == 0.8


def test_what_cannot_be_fused(repository: Path, tmp_path: Path) -> None:
    for name, labels, keep in (
        ("road", LABELS, 30),
        ("letters", LABELS, 400),
        ("other", ("crack", "hole", "dent"), 400),
    ):
        resize = "letterbox" if name == "letters" else "stretch"
        artifact = write_artifact(tmp_path / name, labels, keep=keep, resize=resize)
        release(artifact, repository, model=name, new=True)
    fuse(FuseSettings(members=("ensemble", "road"), repository=str(repository)))
    before = contents(repository)

    for members, model, message in (
        (("ensemble",), "new", "two or more members that differ.*found ensemble version 1$"),
        (("ensemble", "ensemble:1"), "new", "found ensemble version 1, ensemble version 1$"),
        (("ensemble", "ensemble:7"), "new", "ensemble has no version 7, only 1$"),
        (("ensemble", "rood"), "new", "has no model rood"),
        (("ensemble", "other"), "new", "must have the same labels: ensemble has .*RBC.*crack"),
        (("ensemble", "letters"), "new", "same resizing of photos: .*stretch.*letterbox$"),
        (("ensemble", "fused"), "new", "fuses version 1 of ssd and version 1 of road_ssd: release"),
        (("ensemble", "road"), "road", "has a model road.* that is no fusion: choose another"),
        (("ensemble", "road"), "a/b", "--model must be letters"),
        (("road", "ensemble"), "fused", "made for another number of networks, of boxes or"),
    ):
        with pytest.raises(PublishError, match=message):
            fuse(FuseSettings(members=members, model=model, repository=str(repository)))
    with pytest.raises(PublishError, match="give it their versions with `serving fuse --model"):
        release(tmp_path / "road", repository, model="fused")
    assert contents(repository) == before
    assert list_tasks(open_store(repository)) == ["ensemble", "letters", "other", "road"]
