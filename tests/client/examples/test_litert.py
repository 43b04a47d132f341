"""The example for LiteRT finds what `LocalDetector` finds in the same artifact."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from client import LocalDetector
from tests.conftest import PROJECT
from tests.training.shipped_lite import write_artifact

PROGRAM = PROJECT / "client" / "examples" / "litert" / "detect.py"
KEYS = ("score", "x1", "y1", "x2", "y2")
SECONDS = 120


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artifact(tmp_path_factory.mktemp("artifact"))


def detect(artifact: Path, photo: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), str(artifact), str(photo)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def compare(artifact: Path, photo: Path, pixels: float, score: float = 1e-4) -> int:
    """How many were found, the same by both, within so many pixels and so much of score."""
    done = detect(artifact, photo)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    with LocalDetector(artifact) as detector:
        expected = detector.detect(photo).detections
    assert [line["label"] for line in lines] == [it.label for it in expected]
    numbers = np.array([[line[key] for key in KEYS] for line in lines]).reshape(-1, 5)
    theirs = np.array([[it.score, it.box.x1, it.box.y1, it.box.x2, it.box.y2] for it in expected])
    away = np.abs(numbers - theirs.reshape(-1, 5))
    assert (away <= [score, *4 * [pixels]]).all(), away.max(axis=0)
    return len(lines)


def test_the_boxes_are_those_of_local_detector(artifact: Path, smear: Path) -> None:
    assert compare(artifact, smear, pixels=0.05) > 5


def test_nothing_in_a_blank_photo(artifact: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((100, 150, 3), 255, np.uint8))
    assert compare(artifact, tmp_path / "blank.png", pixels=0) == 0


def test_a_letterboxed_photo(artifact: Path, smear: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "artifact"))
    card = json.loads((copy / "card.json").read_text())
    (copy / "card.json").write_text(json.dumps(card | {"resize": "letterbox"}))
    assert compare(copy, smear, pixels=0.05) > 5


def test_a_large_photo_is_averaged(artifact: Path, smear: Path, tmp_path: Path) -> None:
    """Of 2560x1920, where the network sees one pixel of eight: not to the last bit, as the server
    lets libjpeg do it."""
    photo = cv2.resize(cv2.imread(str(smear)), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "large.jpg"), photo)
    assert compare(artifact, tmp_path / "large.jpg", pixels=4, score=0.02) > 5


def test_wrong_usage_and_what_is_no_image(artifact: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    for photo, message in ((text, "no image that OpenCV reads"), (tmp_path / "gone", "No such")):
        done = detect(artifact, photo)
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    done = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:6]) == (2, "usage:")
