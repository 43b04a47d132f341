"""A canary beside the stable version: what each found is known, so every figure is too."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf import text_format
from PIL import Image

from client import Box, Detection, Detector, InvalidImage
from serving.errors import EvaluationError
from serving.release import compare as comparing
from serving.release.compare import (
    CompareError,
    CompareSettings,
    Comparison,
    Side,
    Traffic,
    agree,
    compare,
    describe,
    find_photos,
    iou,
    partners,
    read_defaults,
    run,
    traffic,
)
from serving.release.evaluation import EvaluationSet, Metrics, read_evaluation
from serving.release.promote import RollbackSettings, rollback
from serving.release.publish import CanarySettings, canary
from serving.repository import read_config
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.address import open_store
from tests.conftest import PROJECT
from tests.serving.tiny_network import fail_at, network, write_artifact

SAMPLES = sorted((PROJECT / "samples").glob("*.jpg"))
MIDDLE = (0.25, 0.25, 0.75, 0.75)  # what version 1 finds, of the photo
LOWER = (0.25, 0.25, 0.75, 0.56)  # what version 2 finds: 31/50 of it
DOUBTFUL = 0.3  # its score: below the server's default threshold of 0.5
AWAY = (0.8, 0.8, 0.9, 0.9)  # what version 3 finds


def found(label: str, score: float, *corners: float) -> Detection:
    return Detection(label, 0, score, Box(*corners))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Five ensembles pinned to five versions of ssd."""
    repository = tmp_path_factory.mktemp("compare") / "models"
    ignore = shutil.ignore_patterns("__pycache__", "releases.json")
    shutil.copytree(PROJECT / "model_repository", repository, ignore=ignore)
    onnx_files = {
        "ensemble": network(300, 400, 3, box=MIDDLE, score=0.9),
        "ensemble_canary": network(300, 400, 3, box=LOWER, score=0.8),
        "away": network(300, 400, 3, box=AWAY),
        "doubtful": network(300, 400, 3, box=MIDDLE, score=DOUBTFUL),
        "failing": failing(network(300, 400, 3)),
    }
    for version, (name, model) in enumerate(onnx_files.items(), 1):
        (repository / "ssd" / str(version)).mkdir(exist_ok=True)
        onnx.save(model, repository / "ssd" / str(version) / "model.onnx")
        pin(repository, name, version)
    ssd = read_config(open_store(repository), "ssd")
    ssd.version_policy.specific.versions.extend(range(1, len(onnx_files) + 1))
    ssd.instance_group.add(count=1)
    (repository / "ssd" / "config.pbtxt").write_text(text_format.MessageToString(ssd))
    with EmbeddedServer(ServerSettings(repository=repository)) as running:
        yield running


def pin(repository: Path, name: str, version: int) -> None:
    """Write an ensemble over one version of ssd."""
    config = read_config(open_store(repository), "ensemble")
    config.name = name
    for step in config.ensemble_scheduling.step:
        if step.model_name == "ssd":
            step.model_version = version
    (repository / name / "1").mkdir(parents=True, exist_ok=True)
    (repository / name / "1" / ".keep").touch()
    (repository / name / "config.pbtxt").write_text(text_format.MessageToString(config))


def failing(model: onnx.ModelProto) -> onnx.ModelProto:
    """A network that fails on the sample photos, not on the one that servers are probed with."""
    fail_at(model.graph, 0.68, 0.8)
    return model


def annotate(folder: Path, *parts: tuple[float, float, float, float]) -> EvaluationSet:
    """The sample photos, with objects of RBC at these parts of each."""
    sizes = []
    for path in SAMPLES:
        with Image.open(path) as image:
            sizes.append(image.size)
    content = {
        "images": [{"id": n, "file_name": path.name} for n, path in enumerate(SAMPLES)],
        "categories": [{"id": 1, "name": "RBC"}],
        "annotations": [
            {
                "image_id": n,
                "category_id": 1,
                "bbox": [x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height],
            }
            for n, (width, height) in enumerate(sizes)
            for x1, y1, x2, y2 in parts
        ],
    }
    (folder / "val.json").write_text(json.dumps(content))
    return read_evaluation(folder / "val.json", PROJECT / "samples")


def test_figures_of_two_that_agree(server: EmbeddedServer, tmp_path: Path) -> None:
    """The canary's boxes are 31/50 of the stable one's, which are the annotated ones."""
    evaluation = annotate(tmp_path, MIDDLE)
    comparison = compare(server.grpc_url, "ensemble", "ensemble_canary", [], evaluation)
    stable, canary = comparison.stable, comparison.candidate
    assert stable.metrics
    assert canary.metrics
    assert (stable.metrics.map50, stable.metrics.map) == pytest.approx((1, 1))
    assert (canary.metrics.map50, canary.metrics.map) == pytest.approx((1, 0.3))
    assert (stable.requests, stable.failures, stable.boxes) == (4, 0, 4)
    assert (canary.requests, canary.failures, canary.boxes) == (4, 0, 4)
    assert comparison.agreement == 1
    assert comparison.score_change == pytest.approx(-0.1, abs=1e-3)
    for side in (stable, canary):
        assert side.latency_ms is not None
        assert side.p95_ms is not None
        assert 0 < side.latency_ms <= side.p95_ms


def test_boxes_elsewhere_have_no_partner(server: EmbeddedServer) -> None:
    comparison = compare(server.grpc_url, "ensemble", "away", SAMPLES)
    assert comparison.agreement == 0
    assert comparison.stable.metrics is None
    assert comparison.candidate.boxes == 4


def test_agreement_is_at_the_servers_thresholds(server: EmbeddedServer, tmp_path: Path) -> None:
    """What scores low counts for mAP, not for agreement, whether asked for or not."""
    for evaluation in (None, annotate(tmp_path, MIDDLE)):
        comparison = compare(server.grpc_url, "ensemble", "doubtful", SAMPLES, evaluation)
        assert (comparison.stable.boxes, comparison.candidate.boxes) == (4, 0)
        assert comparison.agreement == 0
    assert comparison.candidate.metrics
    assert comparison.candidate.metrics.map50 == pytest.approx(1)
    nothing = compare(server.grpc_url, "doubtful", "doubtful", SAMPLES)
    assert (nothing.agreement, nothing.stable.boxes) == (1, 0)


def test_failures_are_counted_on_their_side(server: EmbeddedServer, tmp_path: Path) -> None:
    before = traffic(server.grpc_url, "failing")
    evaluation = annotate(tmp_path, MIDDLE)
    comparison = compare(server.grpc_url, "ensemble", "failing", [], evaluation)
    failed = comparison.candidate
    assert (comparison.stable.failures, failed.failures, failed.requests) == (0, 4, 4)
    assert SAMPLES[0].name in failed.first_error
    assert (failed.latency_ms, failed.p95_ms) == (None, None)
    assert failed.metrics
    assert failed.metrics.map50 == 0
    assert comparison.agreement is None
    after = traffic(server.grpc_url, "failing")
    assert after.failed - before.failed == 5  # four, and the one that opened the connection
    assert after.answered - before.answered <= 1  # the server's own


def test_a_photo_that_no_model_reads(server: EmbeddedServer, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    photos = [*SAMPLES[:1], tmp_path / "bad.jpg"]
    comparison = compare(server.grpc_url, "ensemble", "ensemble_canary", photos)
    assert (comparison.stable.failures, comparison.candidate.failures) == (1, 1)
    assert "bad.jpg" in comparison.stable.first_error
    assert (comparison.agreement, comparison.stable.boxes) == (1, 1)


def test_traffic_counts_what_clients_sent(server: EmbeddedServer) -> None:
    before = traffic(server.grpc_url, "away")
    with Detector(server.grpc_url, model="away") as detector:
        for photo in SAMPLES:
            detector.detect(photo)
        with pytest.raises(InvalidImage):
            detector.detect(b"no image")
    after = traffic(server.grpc_url, "away")
    assert (after.answered - before.answered, after.failed - before.failed) == (4, 1)
    assert after.latency_ms is not None
    assert after.latency_ms > 0


def test_traffic_of_a_canary_is_its_own(repository: Path, tmp_path: Path) -> None:
    """Triton counts a canary's requests from its start, whatever earlier ones were asked."""
    artifact = write_artifact(tmp_path / "artifact")
    untried: dict[str, Any] = {"private_server": False, "slowdown": 1000.0}
    with EmbeddedServer(ServerSettings(repository, probe_seconds=600)) as running:
        place: dict[str, Any] = {
            "repository": str(repository),
            "url": running.grpc_url,
            "admin_key": running.admin_key,
        }
        asked = []
        for _ in range(2):
            canary(CanarySettings(artifact=artifact, **place, **untried))
            started = traffic(running.grpc_url, "ensemble_canary")
            with Detector(running.grpc_url, model="ensemble_canary") as detector:
                for photo in SAMPLES:
                    detector.detect(photo)
            asked.append((started, traffic(running.grpc_url, "ensemble_canary")))
            rollback(RollbackSettings(**place))
    for started, after in asked:
        assert (started.asked, after.asked) == (1, 5)  # the one that confirmed it
        assert (started.failed, after.failed) == (0, 0)


def test_defaults_are_the_servers(server: EmbeddedServer) -> None:
    defaults = read_defaults(server.grpc_url, "ensemble")
    assert (defaults.score_threshold, defaults.max_detections) == (0.5, 100)
    with pytest.raises(CompareError, match="ssd has no step with the parameter score_threshold"):
        read_defaults(server.grpc_url, "ssd")


def test_nothing_to_compare(server: EmbeddedServer, tmp_path: Path) -> None:
    with pytest.raises(CompareError, match="serves no model other_canary; `python -m serving can"):
        compare(server.grpc_url, "ensemble", "other_canary", SAMPLES)
    with pytest.raises(CompareError, match="no photos to compare with"):
        compare(server.grpc_url, "ensemble", "ensemble_canary", [])
    with pytest.raises(CompareError, match="no Triton server answers at 127"):
        compare("127.0.0.1:1", "ensemble", "ensemble_canary", SAMPLES)
    with pytest.raises(CompareError, match="the address must be host:port"):
        compare("nowhere", "ensemble", "ensemble_canary", SAMPLES)


def test_labels_of_another_task(server: EmbeddedServer, tmp_path: Path) -> None:
    annotate(tmp_path, MIDDLE)
    path = tmp_path / "val.json"
    path.write_text(path.read_text().replace("RBC", "pothole"))
    evaluation = read_evaluation(path, PROJECT / "samples")
    with pytest.raises(EvaluationError, match="has objects of pothole, but the labels are RBC"):
        compare(server.grpc_url, "ensemble", "ensemble_canary", [], evaluation)


def test_command(
    server: EmbeddedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = annotate(tmp_path, MIDDLE).source
    images = PROJECT / "samples"
    settings = CompareSettings(url=server.grpc_url, evaluation=evaluation, images=images)
    assert run(settings) == 0
    out = capsys.readouterr().out
    assert "4 photos to each of ensemble and ensemble_canary" in out
    assert "canary: mAP@0.5 unchanged, mAP@[.5:.95] 0.700 lower" in out
    settings = CompareSettings((images,), url=server.grpc_url, json=True)
    assert run(settings) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["agreement"] == 1
    assert document["stable"]["requests"] == 4
    assert document["candidate"]["traffic"]["answered"] >= 4


def test_command_without_photos(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(CompareSettings()) == 2
    assert "name photos, folders of photos, or --evaluation" in capsys.readouterr().err


def test_photos_that_are_not_there(tmp_path: Path) -> None:
    assert find_photos([PROJECT / "samples", SAMPLES[0]]) == [*SAMPLES, SAMPLES[0]]
    with pytest.raises(CompareError, match="a folder without images"):
        find_photos([tmp_path])
    with pytest.raises(CompareError, match=r"absent.*: no such file or folder"):
        find_photos([tmp_path / "absent.jpg"])


def test_each_side_is_first_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[str, str]] = []

    class Recorder(comparing._Run):
        def ask(self, photo: Path, parameters: Any) -> None:
            order.append((self._detector.model, photo.name))

    runs = [Recorder(Detector("127.0.0.1:1", model=name)) for name in ("a", "b")]
    comparing._send(runs, [Path("1"), Path("2")], {}, progress=False)
    assert order == [("a", "1"), ("b", "1"), ("b", "2"), ("a", "2")]


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ((0, 0, 10, 10), 1),
        ((0, 0, 5, 10), 0.5),
        ((5, 5, 15, 15), 25 / 175),
        ((10, 0, 20, 10), 0),  # touching
        ((-20, -20, -10, -10), 0),
        ((3, 3, 3, 3), 0),
    ],
)
def test_iou(corners: tuple[float, ...], expected: float) -> None:
    assert iou(Box(0, 0, 10, 10), Box(*corners)) == pytest.approx(expected)
    assert iou(Box(*corners), Box(0, 0, 10, 10)) == pytest.approx(expected)


def test_iou_without_areas() -> None:
    assert iou(Box(1, 1, 1, 1), Box(1, 1, 1, 1)) == 0


def test_partners_are_one_to_one_and_the_best() -> None:
    first = [found("a", 0.9, 0, 0, 10, 10), found("a", 0.8, 0, 0, 10, 8)]
    second = [found("a", 0.7, 0, 0, 10, 8), found("b", 0.9, 0, 0, 10, 10)]
    assert partners(first, second) == [(1, 0)]
    assert partners([], second) == []


def test_agreement_by_hand() -> None:
    """Of 3 and 2 boxes one has a partner: 2 of 5; with a photo of two equal ones 4 of 7."""
    first = [found("a", 0.9, n, 0, n + 10, 10) for n in (0, 100, 200)]
    second = [found("a", 0.7, 0, 0, 10, 9), found("b", 0.9, 100, 0, 110, 10)]
    assert agree([(first, second)]) == pytest.approx((2 / 5, -0.2))
    assert agree([(first, second), (first[:1], first[:1])]) == pytest.approx((4 / 7, -0.1))
    assert agree([([], [])]) == (1, 0)
    assert agree([(first, [])]) == (0, 0)
    assert agree([]) == (None, 0)


def side(**changes: Any) -> Side:
    values: dict[str, Any] = {
        "model": "ensemble",
        "requests": 20,
        "failures": 0,
        "first_error": "",
        "latency_ms": 20.0,
        "p95_ms": 30.0,
        "boxes": 50,
        "metrics": Metrics(0.9, 0.6, {"RBC": (0.9, 0.6)}, 20),
        "traffic": Traffic(1000, 0, 15.0),
    }
    return Side(**values | changes)


def test_table_says_what_is_worse() -> None:
    worse = side(
        model="ensemble_canary",
        metrics=Metrics(0.869, 0.61, {"RBC": (0.869, 0.61)}, 20),
        latency_ms=25.5,
        failures=2,
        first_error="a.jpg: the server failed",
        traffic=Traffic(95, 5, None),
    )
    text = describe(Comparison(side(), worse, 0.93, -0.02))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "mAP@0.5 0.900 0.869 -0.031" in lines
    assert "RBC, mAP@0.5 0.900 0.869 -0.031" in lines
    assert "latency, median, ms 20.0 25.5 +5.5" in lines
    assert "requests of others before 1000 100" in lines
    assert "of them failed, % 0.00 5.00 +5.00" in lines
    assert "canary: mAP@0.5 0.031 lower, mAP@[.5:.95] 0.010 higher" in lines
    assert "canary: 2 of 20 requests failed, first: a.jpg: the server failed" in lines
    assert any(line.startswith("agreement: 93.0% of the boxes") for line in lines)


def test_table_without_figures() -> None:
    empty = side(metrics=None, latency_ms=None, p95_ms=None, traffic=Traffic(0, 0, None))
    text = describe(Comparison(empty, empty, None, 0.0))
    assert "mAP" not in text
    assert "agreement: no photo was answered by both" in text
