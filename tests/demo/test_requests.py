"""What a browser may send to the page's own functions, and what it may not."""

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from client import Box, Detection, Detector, Result
from demo.camera import FRAME_LIMIT, frames_to
from demo.page import on_show
from demo.photos import Found, drawing
from serving.server.server import EmbeddedServer
from tests.demo.program import PROJECT

SAMPLE = PROJECT / "samples" / "smear-1.jpg"
FOUND = Detection("WBC", 1, 0.9, Box(100.0, 100.0, 300.0, 300.0))
ANSWERED = [Found("lost.jpg", None), Found(str(SAMPLE), Result((FOUND, FOUND), 640, 480))]


@pytest.fixture
def detector(trial_server: EmbeddedServer) -> Iterator[Detector]:
    with Detector(trial_server.grpc_url) as detector:
        yield detector


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gradio's, for uploads and what is made of them."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


def test_a_photo_is_drawn_on(folder: Path) -> None:
    answer = drawing(ANSWERED, {"photo": 1, "detections": [0, 1, 0]})
    picture = Path(answer["picture"]["path"])
    assert picture.name == "smear-1-detections.jpg"
    assert picture.is_relative_to(folder)
    with Image.open(picture) as image:
        assert image.size == (640, 480)


@pytest.mark.parametrize(
    "asked",
    [
        None,
        [],
        7,
        "text",
        {},
        {"photo": 0, "detections": [0]},
        {"photo": 2, "detections": [0]},
        {"photo": str(SAMPLE), "detections": []},
        {"photo": 1, "detections": [2]},
        {"photo": 1, "detections": [{"label": "WBC"}]},
        {"photo": 1, "detections": None},
    ],
)
def test_nothing_but_what_was_answered_is_drawn(asked: Any, folder: Path) -> None:
    assert drawing(ANSWERED, asked)["message"]["headline"] == "This photo is no longer here"
    assert not list(folder.iterdir())


def test_a_photo_that_has_gone_is_told(folder: Path) -> None:
    gone = [Found(str(folder / "gone.jpg"), Result((FOUND,), 640, 480))]
    message = drawing(gone, {"photo": 0, "detections": [0]})["message"]
    assert message["text"].startswith("It is no longer here: photos are kept for an hour, or until")


def test_a_frame_is_answered(detector: Detector) -> None:
    frame = base64.b64encode(SAMPLE.read_bytes()).decode()
    answer = asyncio.run(frames_to(detector)([frame, 0.45]))
    assert answer["detections"]
    assert answer["model"] == "ensemble"
    assert set(answer["colours"]) == set(answer["counts"])


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        ("no base64!", "The page sent no picture"),
        ("A" * (FRAME_LIMIT + 4), "too large"),
        (base64.b64encode(b"no photo").decode(), "Not an image"),
    ],
)
def test_a_frame_that_is_none_is_an_error(detector: Detector, frame: str, text: str) -> None:
    answer = asyncio.run(frames_to(detector)([frame, 0.45]))
    assert text in answer["error"]["text"]


def test_what_is_on_show_is_what_the_sliders_let_through() -> None:
    result = Result((FOUND, Detection("RBC", 0, 0.4, FOUND.box)), 640, 480)
    found = [Found("a.jpg", None), Found("b.jpg", result, "ssd 3")]
    assert on_show(found, 1, 0.3, 100) == Found("b.jpg", result, "ssd 3")
    assert on_show(found, 1, 0.5, 100) == Found("b.jpg", Result((FOUND,), 640, 480), "ssd 3")
    assert on_show(found, 1, 0.3, 1) == Found("b.jpg", Result((FOUND,), 640, 480), "ssd 3")
    assert on_show(found, 0, 0.5, 100) is None
    assert on_show([], 0, 0.5, 100) is None


@pytest.mark.parametrize("index", [-1, 2, "1", None, 0.5, [1], True])
def test_no_other_photo_is_on_show(index: Any) -> None:
    assert on_show(ANSWERED, index, 0.5, 100) is None
