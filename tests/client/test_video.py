import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
from playwright.sync_api import Browser

from client import (
    Box,
    Detection,
    Detector,
    DetectorError,
    InvalidImage,
    InvalidParameter,
    ServerError,
    video,
)
from client.frames import Frame, VideoFile
from serving.server.server import EmbeddedServer
from tests.client.clips import number_of, numbered, read_clip, save_clip
from tests.client.conftest import Service, answer_tensors

FRAMES = 12


@dataclass
class Live:
    """A live source that has its frames ready, and dropped some."""

    frames: list[Frame]
    name: str = "camera 0"
    fps: float = 10
    total: int = 0
    live: bool = True
    dropped: int = 7

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def check_end(self) -> None:
        raise InvalidImage("camera 0: gives no more frames")


def found_in(number: int) -> Detection:
    """Return what the service finds in the picture of a number."""
    return Detection("RBC", 0, 0.5, Box(number, 8, number + 30, 40))


def picture_of(request: Any) -> np.ndarray:
    jpeg = request.raw_input_contents[0][4:]  # after its length
    assert jpeg[:2] == b"\xff\xd8"
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


@pytest.fixture
def numbering(service: Service) -> Service:
    """The service, that finds one cell in each frame, placed by the frame's number."""
    service.answer = lambda request, _: answer_tensors(
        [found_in(number_of(picture_of(request)))], size=(96, 128)
    )
    return service


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return save_clip(tmp_path / "clip.mp4", [numbered(n) for n in range(FRAMES)])


def run(path: Path, service: Service, **options: Any) -> list[str]:
    """Return what is written for a file."""
    lines: list[str] = []
    with VideoFile(path) as source, Detector(service.url) as detector:
        video.run_video(source, detector, write=lines.append, **options)
    return lines


def test_results_come_with_their_frames_in_order(numbering: Service, clip: Path) -> None:
    with VideoFile(clip) as source, Detector(numbering.url) as detector:
        pairs = list(video.detect(detector, source, concurrency=4))
    assert [frame.number for frame, _ in pairs] == list(range(FRAMES))
    assert [result.detections for _, result in pairs] == [(found_in(n),) for n in range(FRAMES)]


def test_several_frames_are_under_way_at_once(numbering: Service, clip: Path) -> None:
    together = threading.Barrier(4, timeout=30)
    answer = numbering.answer

    def wait(request, context):
        together.wait()
        return answer(request, context)

    numbering.answer = wait
    with VideoFile(clip) as source, Detector(numbering.url) as detector:
        assert len(list(video.detect(detector, source, concurrency=4))) == FRAMES


def test_no_frames_under_way_are_wrong_usage(numbering: Service, clip: Path) -> None:
    with pytest.raises(InvalidParameter, match="concurrency must be 1 or more"):
        run(clip, numbering, concurrency=0)


def test_the_parameters_reach_the_server(numbering: Service, clip: Path) -> None:
    run(clip, numbering, score_threshold=0.25)
    assert {r.parameters["score_threshold"].double_param for r in numbering.requests} == {0.25}


def test_a_summary_is_told(numbering: Service, clip: Path) -> None:
    (line,) = run(clip, numbering)
    assert line.startswith(f"{clip}: 12 frames in ")
    assert line.endswith(" frames/s; in a frame 1.0 RBC")


def test_json_has_a_line_per_frame(
    numbering: Service, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.loads(line) for line in run(clip, numbering, as_json=True)]
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert [line["seconds"] for line in lines] == pytest.approx([n / 10 for n in range(FRAMES)])
    assert lines[3]["detections"][0]["box"] == {"x1": 3, "y1": 8, "x2": 33, "y2": 40}
    assert lines[3]["file"] == str(clip)
    assert "12 frames" in capsys.readouterr().err


def test_a_drawn_video_has_all_frames_and_the_boxes(
    numbering: Service, clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    drawn = tmp_path / "drawn.webm"
    run(clip, numbering, drawn=drawn)
    with VideoFile(drawn) as made:
        assert (made.fps, made.total) == (10, FRAMES)
        pictures = [frame.picture for frame in made]
    plain = read_clip(clip)
    assert [number_of(picture[60:, 70:]) for picture in pictures] == list(range(FRAMES))
    assert all((a != b).any() for a, b in zip(pictures, plain, strict=True))
    assert capfd.readouterr().err == ""


def test_a_broken_video_is_drawn_as_far_as_it_goes(numbering: Service, tmp_path: Path) -> None:
    path = save_clip(tmp_path / "clip.avi", [numbered(n, (640, 480)) for n in range(20)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    drawn = tmp_path / "drawn.webm"
    with pytest.raises(InvalidImage, match="broken off after"):
        run(path, numbering, drawn=drawn)
    assert 5 < len(read_clip(drawn)) < 15


def test_a_server_that_fails_leaves_a_file_that_plays(
    numbering: Service, clip: Path, tmp_path: Path
) -> None:
    answer = numbering.answer

    def fail_at_nine(request, context):
        if number_of(picture_of(request)) == 9:
            context.abort(grpc.StatusCode.INTERNAL, "out of order")
        return answer(request, context)

    numbering.answer = fail_at_nine
    with pytest.raises(ServerError, match="out of order"):
        run(clip, numbering, drawn=tmp_path / "drawn.webm")
    assert len(read_clip(tmp_path / "drawn.webm")) == 9


def test_of_a_live_source_two_frames_are_under_way_and_all_are_told(numbering: Service) -> None:
    taken: list[int] = []

    class Watched(Live):
        def __iter__(self) -> Iterator[Frame]:
            for frame in self.frames:
                taken.append(frame.number)
                yield frame

    ahead: list[int] = []
    source = Watched([Frame(n, n / 10, numbered(n)) for n in range(10)])
    with Detector(numbering.url) as detector, pytest.raises(InvalidImage):
        video.run_video(source, detector, write=lambda _: ahead.append(taken[-1]), as_json=True)
    assert ahead == [*range(1, 10), 9]


def test_a_camera_that_ends_is_told_and_summed_up(numbering: Service) -> None:
    lines: list[str] = []
    source = Live([Frame(n, n / 10, numbered(n)) for n in range(5)])
    with Detector(numbering.url) as detector, pytest.raises(InvalidImage, match="no more frames"):
        video.run_video(source, detector, write=lines.append)
    assert "7 dropped" in lines[0]


def test_without_a_frame_nothing_is_recorded(tmp_path: Path) -> None:
    with video.Recording(tmp_path / "a.webm", 10):
        pass
    assert not (tmp_path / "a.webm").exists()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([5.0, 5.1, 5.2], [0, 1, 2]),  # a beginning later than 0
        ([0.0, 0.1, 0.4, 0.5], [0, 1, 2, 2, 2, 3]),  # two frames left out
        ([0.0, 0.03, 0.06], [0, 1, 2]),  # faster than the rate said: none is lost
        ([0.0, 1e9, 0.1], [0, 1, 2]),  # a clock that jumps
    ],
)
def test_a_recording_lasts_as_long_as_its_source(
    tmp_path: Path, seconds: list[float], expected: list[int]
) -> None:
    with video.Recording(tmp_path / "a.webm", 10) as recording:
        for number, time in enumerate(seconds):
            recording.add(numbered(number), time)
    assert [number_of(picture) for picture in read_clip(tmp_path / "a.webm")] == expected


def test_a_recording_may_be_an_mp4(tmp_path: Path) -> None:
    with video.Recording(tmp_path / "a.mp4", 10) as recording:
        for number in range(3):
            recording.add(numbered(number), number / 10)
    assert [number_of(picture) for picture in read_clip(tmp_path / "a.mp4")] == [0, 1, 2]


@pytest.mark.parametrize("size", [(65, 49), (17, 3), (16, 1001)])
def test_a_recording_has_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    with video.Recording(tmp_path / "a.webm", 10) as recording:
        for number in range(3):
            recording.add(numbered(number, size), number / 10)
    assert [number_of(picture) for picture in read_clip(tmp_path / "a.webm")] == [0, 1, 2]


def test_a_picture_of_another_size_is_stretched(tmp_path: Path) -> None:
    with video.Recording(tmp_path / "a.webm", 10) as recording:
        recording.add(numbered(0), 0)
        recording.add(numbered(1, (64, 32)), 0.1)
    assert [picture.shape for picture in read_clip(tmp_path / "a.webm")] == [(96, 128, 3)] * 2


@pytest.mark.parametrize("name", ["file:a.webm", "http:127.0.0.1.webm", "a%03d.webm"])
def test_a_recording_is_saved_under_the_very_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with video.Recording(Path(name), 10) as recording:
        recording.add(numbered(3), 0)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with VideoFile(Path(name)) as made:
        assert [number_of(frame.picture) for frame in made] == [3]


def test_a_recording_that_cannot_be_saved_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.webm").mkdir()
    with (
        pytest.raises(DetectorError, match=r"a\.webm: cannot be saved: Is a directory"),
        video.Recording(tmp_path / "a.webm", 10) as recording,
    ):
        recording.add(numbered(0), 0)


def test_a_browser_plays_a_recording_to_its_end(tmp_path: Path, browser: Browser) -> None:
    path = tmp_path / "a.webm"
    with video.Recording(path, 10) as recording:
        for number in range(5):
            recording.add(numbered(number), number / 10)
    page = browser.new_page()
    page.goto(path.as_uri())
    page.eval_on_selector("video", "video => { video.muted = true; video.play() }")
    page.wait_for_function("document.querySelector('video').ended")
    played = page.eval_on_selector(
        "video", "v => [v.videoWidth, v.videoHeight, v.duration, v.error]"
    )
    page.close()
    assert played == [128, 96, pytest.approx(0.5, abs=0.11), None]


def test_the_real_server_finds_in_a_video_what_it_finds_in_its_frames(
    server: EmbeddedServer, smear: Path, tmp_path: Path
) -> None:
    picture = cv2.imread(str(smear))
    moving = [np.ascontiguousarray(np.roll(picture, 8 * n, axis=1)) for n in range(6)]
    path = save_clip(tmp_path / "clip.avi", moving)
    with VideoFile(path) as source, Detector(server.grpc_url) as detector:
        for frame, result in video.detect(detector, source, concurrency=4):
            alone = detector.detect(np.ascontiguousarray(frame.picture[..., ::-1]))
            assert len(alone.detections) > 3
            assert abs(len(result.detections) - len(alone.detections)) <= 2
            assert (result.width, result.height) == picture.shape[1::-1]


def test_a_progress_bar_shows_rate_and_counts(
    numbering: Service, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", terminal)
    run(clip, numbering)
    assert "frame/s" in terminal.getvalue()
