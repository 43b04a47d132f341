"""LocalDetector by itself; tests/model_repository compares it with the server."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from client import Box, DetectorError, InvalidImage, InvalidParameter, LocalDetector
from client.__main__ import main
from tests.conftest import PROJECT
from tests.serving.tiny_network import fail_at, network, write_artifact

REPOSITORY = PROJECT / "model_repository"
PAGE = PROJECT / "docs" / "local.md"


def run(*args: object) -> int:
    return main(["detect", *map(str, args)])


@pytest.fixture(scope="module")
def detector() -> Iterator[LocalDetector]:
    with LocalDetector(REPOSITORY) as detector:
        yield detector


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """An artifact whose network finds one object of class 0 in every image."""
    return write_artifact(tmp_path / "mine", ("cat", "dog"), size=64, keep=10)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the shipped repository with a tiny network, to be changed."""
    ignore = shutil.ignore_patterns("model.onnx", "__pycache__")
    copy = Path(shutil.copytree(REPOSITORY, tmp_path / "models", ignore=ignore))
    onnx.save(network(300, 400, 3), copy / "ssd" / "2" / "model.onnx")
    return copy


def test_finds_what_is_in_a_photo(detector: LocalDetector, smear: Path) -> None:
    result = detector.detect(smear)

    assert (result.width, result.height, result.model) == (640, 480, "ensemble")
    assert result.counts().keys() == {"RBC", "WBC", "Platelets"}
    assert detector.labels == ("RBC", "WBC", "Platelets")


def test_thresholds_by_class_of_an_artifact(artifact: Path) -> None:
    """Its object scores 0.9. A request's own threshold is for all classes."""
    for thresholds, count in (([0.95, 0.1], 0), ([0.85, 0.99], 1)):
        (artifact / "card.json").write_text(json.dumps({"score_thresholds": thresholds}))
        with LocalDetector(artifact) as detector:
            photo = np.zeros((8, 8, 3), np.uint8)
            assert len(detector.detect(photo).detections) == count
            assert len(detector.detect(photo, score_threshold=0.2).detections) == 1


def test_path_bytes_and_pixels_give_the_same(detector: LocalDetector, smear: Path) -> None:
    pixels = cv2.cvtColor(cv2.imread(str(smear)), cv2.COLOR_BGR2RGB)

    assert detector.detect(str(smear)) == detector.detect(smear.read_bytes())
    assert detector.detect(pixels).counts() == detector.detect(smear).counts()


def test_an_artifact(artifact: Path, smear: Path) -> None:
    with LocalDetector(artifact) as detector:
        result = detector.detect(smear)

    assert [(found.label, found.box) for found in result.detections] == [
        ("cat", Box(160.0, 120.0, 480.0, 360.0))
    ]
    assert (result.model, detector.model) == ("mine", "mine")


def test_the_versions_differ(detector: LocalDetector, smear: Path) -> None:
    with LocalDetector(REPOSITORY, version=1) as float32, LocalDetector(REPOSITORY, version=2) as b:
        assert b.detect(smear) == detector.detect(smear)
        assert float32.detect(smear) != detector.detect(smear)


def test_what_is_seen_in_one_of_two_views_has_half_the_score(tmp_path: Path, smear: Path) -> None:
    """The tiny network finds its object at the left in whatever it is shown."""
    left = write_artifact(tmp_path / "left", box=(0.1, 0.25, 0.4, 0.75), score=0.8)
    with LocalDetector(left, flips=["horizontal"]) as detector:
        result = detector.detect(smear, score_threshold=0.3)

    places = sorted(found.box.x1 / result.width for found in result.detections)
    assert places == pytest.approx([0.1, 0.6])
    assert [found.score for found in result.detections] == pytest.approx([0.4, 0.4], abs=1e-3)


def test_flips_agree_on_real_cells(detector: LocalDetector, smear: Path) -> None:
    with LocalDetector(REPOSITORY, flips=["horizontal", "vertical"]) as flipped:
        fused, plain = flipped.detect(smear), detector.detect(smear)

    assert fused.counts()["RBC"] == pytest.approx(plain.counts()["RBC"], abs=3)
    assert fused.detections != plain.detections
    with pytest.raises(InvalidParameter, match="flips must be a list"):
        LocalDetector(REPOSITORY, flips="horizontal")  # type: ignore[arg-type]


def test_the_number_of_threads_changes_no_bit(detector: LocalDetector, smear: Path) -> None:
    with LocalDetector(REPOSITORY, threads=1) as one, LocalDetector(REPOSITORY, threads=3) as three:
        found = [each.detect(smear, score_threshold=0.01) for each in (one, three, detector)]
    assert found[0] == found[1] == found[2]


def test_bad_images(detector: LocalDetector, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"hello")

    with pytest.raises(InvalidImage, match=r"^.*/photo\.jpg: not an image \(JPEG, "):
        detector.detect(tmp_path / "photo.jpg")
    with pytest.raises(InvalidImage, match=r"^the image: empty$"):
        detector.detect(b"")
    with pytest.raises(InvalidImage, match="no such file"):
        detector.detect(tmp_path / "other.jpg")
    with pytest.raises(InvalidImage, match="an array must be uint8"):
        detector.detect(np.zeros((2, 2)))
    with pytest.raises(TypeError, match="but got int"):
        detector.detect(1)  # type: ignore[arg-type]


def test_a_parameter_out_of_range(detector: LocalDetector, smear: Path) -> None:
    message = "^score_threshold is 2.0, a number from 0 to 1 expected$"
    with pytest.raises(InvalidParameter, match=message):
        detector.detect(smear, score_threshold=2)


def test_many_of_none_are_none(detector: LocalDetector) -> None:
    assert list(detector.detect_many([])) == []


def test_many_keep_their_order(detector: LocalDetector, smear: Path) -> None:
    images: list[Path | bytes] = [smear, b"hello", smear]

    first, bad, last = detector.detect_many(images, errors="return", max_detections=1)

    assert isinstance(bad, InvalidImage)
    assert first == last == detector.detect(smear, max_detections=1)
    with pytest.raises(InvalidImage, match="not an image"):
        list(detector.detect_many(images))
    with pytest.raises(InvalidParameter, match="concurrency must be 1 or more"):
        detector.detect_many(images, concurrency=0)


def test_threads_may_share_a_detector(detector: LocalDetector, smear: Path) -> None:
    files = [smear, PROJECT / "samples" / "smear-2.jpg"] * 8
    alone = {file: detector.detect(file) for file in files}

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(detector.detect, files))

    assert results == [alone[file] for file in files]


def test_a_closed_detector(artifact: Path, smear: Path) -> None:
    with LocalDetector(artifact) as detector:
        pass
    detector.close()

    with pytest.raises(DetectorError, match="the detector is closed"):
        detector.detect(smear)


def test_two_repositories_do_not_mix(
    repository: Path, detector: LocalDetector, smear: Path
) -> None:
    code = repository / "preprocess" / "1" / "image_header.py"
    code.write_text(code.read_text().replace("not an image", "no picture at all"))

    with LocalDetector(repository) as other:
        for each, words in ((other, "no picture at all"), (detector, "not an image")):
            with pytest.raises(InvalidImage, match=words):
                each.detect(b"hello")


def test_the_folder_and_the_program_stay_as_they_are(repository: Path, smear: Path) -> None:
    before = state(repository)
    LocalDetector(repository).detect(smear)
    assert state(repository) == before


def state(repository: Path) -> tuple[object, ...]:
    """What a LocalDetector leaves alone: files, OpenCV's settings, where and what is imported."""
    steps = {"preprocessing", "postprocessing", "image_header"} & sys.modules.keys()
    files = sorted(repository.rglob("*"))
    return files, cv2.getNumThreads(), cv2.getLogLevel(), set(sys.path), steps


def test_a_network_that_is_none(artifact: Path) -> None:
    path = artifact / "model.onnx"
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(DetectorError, match=r"mine/model\.onnx is no network that ONNX Runtime"):
        LocalDetector(artifact)


def test_a_network_with_other_tensors(artifact: Path) -> None:
    model = network(64, 10, 2)
    model.graph.output.pop()
    onnx.save(model, artifact / "model.onnx")

    with pytest.raises(DetectorError, match=r"must take images .* found images \['batch', 64"):
        LocalDetector(artifact)


def test_a_network_that_is_not_there(repository: Path) -> None:
    (repository / "ssd" / "2" / "model.onnx").unlink()

    with pytest.raises(DetectorError, match=r"ssd/2/model\.onnx is missing: the network"):
        LocalDetector(repository)


def test_a_network_that_fails(artifact: Path) -> None:
    model = network(64, 10, 2)
    fail_at(model.graph, -1, 2)
    onnx.save(model, artifact / "model.onnx")

    with pytest.raises(DetectorError, match=r"^the array: the network failed: \["):
        LocalDetector(artifact).detect(np.zeros((8, 8), np.uint8))


def test_labels_of_another_task(artifact: Path) -> None:
    (artifact / "labels.txt").write_text("cat\n")

    with pytest.raises(DetectorError, match=r"labels\.txt has 1 lines, .* has 2 classes"):
        LocalDetector(artifact)


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        ("preprocess", ("max_pixels", "pixels"), "lacks or misstates 'max_pixels'"),
        ("postprocess", ('"0.45"', '"half"'), "lacks or misstates could not convert .* 'half'"),
        ("postprocess", ('"0.45"', '"1.5"'), r"lacks or misstates iou_threshold is 1\.5"),
        ("postprocess", ('"detection_boxes"', '"boxes"'), "lacks or misstates 'detection_boxes'"),
    ],
)
def test_a_setting_that_makes_no_sense(
    repository: Path, model: str, change: tuple[str, str], message: str
) -> None:
    config = repository / model / "config.pbtxt"
    config.write_text(config.read_text().replace(*change))

    with pytest.raises(DetectorError, match=message):
        LocalDetector(repository)


def test_steps_without_their_code(repository: Path) -> None:
    (repository / "postprocess" / "1" / "postprocessing.py").unlink()

    with pytest.raises(DetectorError, match=r"postprocessing\.py is missing: the step's code"):
        LocalDetector(repository)


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("onnxruntime", "needs ONNX Runtime .*: pip install onnxruntime$"),
        ("cv2", r"preprocessing\.py needs .*: pip install opencv-python-headless pillow$"),
    ],
)
def test_a_package_that_is_not_installed(
    package: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # what makes `import` raise

    with pytest.raises(DetectorError, match=message):
        LocalDetector(REPOSITORY)


def test_the_command_line(
    detector: LocalDetector, smear: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(smear, "--local", REPOSITORY, "--json") == 0

    (found,) = json.loads(capsys.readouterr().out)
    assert found == {"file": str(smear), **detector.detect(smear).to_dict()}


def test_the_command_line_over_a_folder_that_is_neither(
    smear: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(smear, "--local", tmp_path) == 2
    assert "is neither a model repository" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "program", re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
)
def test_a_program_of_the_page_runs(program: str, smear: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/1.jpg", "photos/2.jpg"):
        shutil.copy(smear, tmp_path / name)
    (tmp_path / "model_repository").symlink_to(REPOSITORY)
    write_artifact(tmp_path / "artifacts" / "mine" / "int8")

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
