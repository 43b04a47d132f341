"""What a browser may send to the page's own functions, and what it may not."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from client import Box, Detection, Detector, Result
from demo.camera import FRAME_LIMIT, frames_to
from demo.page import on_show
from demo.photos import drawing_of
from serving.server import EmbeddedServer
from tests.demo.program import PROJECT

SAMPLE = PROJECT / "samples" / "smear-1.jpg"
FOUND = Detection("WBC", 1, 0.9, Box(100.0, 100.0, 300.0, 300.0))
TOLD = {"label": "WBC", "class_id": 1, "score": 0.9, "box": {"x1": 9, "y1": 9, "x2": 99, "y2": 99}}


@pytest.fixture
def detector(trial_server: EmbeddedServer) -> Iterator[Detector]:
    with Detector(trial_server.grpc_url) as detector:
        yield detector


def test_a_photo_is_drawn_on() -> None:
    answer = drawing_of([SAMPLE.parent])([str(SAMPLE), [TOLD]])
    with Image.open(io.BytesIO(base64.b64decode(answer["jpeg"]))) as picture:
        assert picture.size == (640, 480)


@pytest.mark.parametrize("path", ["/etc/hostname", "samples/../README.md", "", None, 7])
def test_no_other_file_is_drawn_on(path: Any) -> None:
    answer = drawing_of([SAMPLE.parent])([path, []])
    assert set(answer) == {"error"}
    assert str(path) not in answer["error"]["text"] or not path


@pytest.mark.parametrize("request_", [None, [], [str(SAMPLE)], [str(SAMPLE), [{}]], "text", 7])
def test_a_request_that_makes_no_sense_is_an_error(
    request_: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert set(drawing_of([SAMPLE.parent])(request_)) == {"error"}
    assert "the page failed" in caplog.text  # for whoever runs it


def test_a_frame_is_answered(detector: Detector) -> None:
    frame = base64.b64encode(SAMPLE.read_bytes()).decode()
    answer = frames_to(detector)([frame, 0.45])
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
    assert text in frames_to(detector)([frame, 0.45])["error"]["text"]


def test_what_is_on_show_is_what_the_sliders_let_through() -> None:
    result = Result((FOUND, Detection("RBC", 0, 0.4, FOUND.box)), 640, 480)
    found = [("a.jpg", None), ("b.jpg", result)]
    assert on_show(found, 1, 0.3, 100) == (Path("b.jpg"), result)
    assert on_show(found, 1, 0.5, 100) == (Path("b.jpg"), Result((FOUND,), 640, 480))
    assert on_show(found, 1, 0.3, 1) == (Path("b.jpg"), Result((FOUND,), 640, 480))
    assert on_show(found, 0, 0.5, 100) is None
    assert on_show([], 0, 0.5, 100) is None
