import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from client import InvalidImage
from client.frames import Camera, VideoFile, video_file
from tests.client.clips import (
    boasting,
    elsewhere,
    growing,
    misleading,
    number_of,
    numbered,
    save_clip,
    turned_clip,
)
from tests.conftest import wait_until

SECONDS = 30  # that a test waits for what comes at once, even on a busy machine


class FakeCapture:
    """A camera that gives a frame when the test says so; None ends it."""

    def __init__(self) -> None:
        self.name: int | str = ""
        self.frames: queue.Queue[np.ndarray | None] = queue.Queue()
        self.released = threading.Event()

    def __call__(self, name: int | str) -> "FakeCapture":
        self.name = name
        return self

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def get(self, property_id: int) -> float:
        return {cv2.CAP_PROP_FPS: 25.0}[property_id]

    def read(self) -> tuple[bool, np.ndarray]:
        frame = self.frames.get()
        return (frame is not None, np.empty(0, np.uint8) if frame is None else frame)

    def release(self) -> None:
        self.released.set()


@pytest.fixture
def capture() -> Iterator[FakeCapture]:
    capture = FakeCapture()
    yield capture
    capture.frames.put(None)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_a_file_gives_every_frame_in_order(tmp_path: Path, suffix: str) -> None:
    path = save_clip(tmp_path / f"clip{suffix}", [numbered(n) for n in range(12)])
    with VideoFile(path) as video:
        assert (video.fps, video.total, video.live) == (10, 12, False)
        frames = list(video)
        video.check_end()
    assert [number_of(frame.picture) for frame in frames] == list(range(12))
    assert [frame.number for frame in frames] == list(range(12))
    assert [frame.seconds for frame in frames] == pytest.approx([n / 10 for n in range(12)])


def test_a_video_filmed_upright_is_read_upright(tmp_path: Path) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = 255
    path = save_clip(tmp_path / "clip.mp4", [picture] * 3)
    path.write_bytes(turned_clip(path.read_bytes()))
    with VideoFile(path) as video:
        upright = next(iter(video)).picture
    assert upright.shape == (64, 48, 3)
    assert upright[:24].min() > 128 > upright[40:].max()  # the left side is the top now


def test_a_rate_that_cannot_be_is_replaced(tmp_path: Path) -> None:
    path = save_clip(tmp_path / "clip.avi", [numbered(0)] * 2, fps=1000)
    with VideoFile(path) as video:
        assert video.fps == 30


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file or directory"),
        (b"", "not a video that can be read"),
        (b"hello", "not a video that can be read"),
        (b"\0\0\0\x18ftypisom" + b"\0" * 1000, "not a video that can be read"),
    ],
)
def test_a_file_that_is_no_video_is_told_in_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes | None, reason: str
) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidImage, match=f"(?i)^{path}: {reason}"):
        VideoFile(path)
    assert capfd.readouterr().err == ""


# Names by which FFmpeg or OpenCV would go for another file, other files, or the network.
NAMES = ("clip.m3u8", "clip.mpd", "clip.sdp", "clip.ffconcat", "img%03d.png", "concat:a.avi|a.avi",
         "http:127.0.0.1", "file:a.avi", "subfile,,start,0,end,0,,:a.avi", "-i", "clip.mp4",
         "clip.avi", "clip.mkv", "clip")  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with files that no other file's reader has any business with."""
    monkeypatch.chdir(tmp_path)
    save_clip(Path("a.avi"), [numbered(7)] * 3)
    for number in range(3):
        cv2.imwrite(f"img{number:03}.png", numbered(7))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_what_names_other_files_is_no_video_whatever_it_is_called(folder: Path, name: str) -> None:
    for kind, content in misleading(folder / "a.avi").items():
        Path(name).write_bytes(content)
        for path in (Path(name), folder / name):
            expected = pytest.raises(InvalidImage, match="not a video that can be read: MP4")
            with expected, VideoFile(path) as video:
                pytest.fail(f"{kind} gave {len(list(video))} frames")


@pytest.mark.slow
@pytest.mark.parametrize("first", [b"\0\0\0\x10ftypisom\0\0\0\0", b"\x1aE\xdf\xa3", b"OggS"])
def test_the_first_bytes_of_a_video_do_not_let_others_in(folder: Path, first: bytes) -> None:
    for content in misleading(folder / "a.avi").values():
        Path("clip.mp4").write_bytes(first + b"\n" + content)
        with pytest.raises(InvalidImage, match="not a video that can be read, or its beginning"):
            VideoFile(Path("clip.mp4"))


@pytest.mark.parametrize("name", NAMES)
def test_a_video_is_read_whatever_it_is_called(folder: Path, name: str) -> None:
    clip = save_clip(folder / "mine.mp4", [numbered(n) for n in range(4)])
    clip.rename(name)
    with VideoFile(Path(name)) as video:
        assert [number_of(frame.picture) for frame in video] == [0, 1, 2, 3]


def test_pictures_that_a_video_has_in_another_file_are_not_fetched(folder: Path) -> None:
    clip = save_clip(folder / "mine.mp4", [numbered(5)] * 3)
    Path("hollow.mov").write_bytes(elsewhere(clip.read_bytes(), b"mine.mp4"))
    with VideoFile(Path("hollow.mov")) as video:
        assert list(video) == []


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_frames_that_are_too_large_are_told(tmp_path: Path, suffix: str) -> None:
    clip = save_clip(tmp_path / f"clip{suffix}", [numbered(0)])
    with pytest.raises(InvalidImage, match="its frames of 128x96 are larger than the 0 megapixels"):
        VideoFile(clip, max_pixels=128 * 96 - 1)


def test_frames_that_become_too_large_are_not_decoded(tmp_path: Path) -> None:
    clip = growing(tmp_path / "clip.avi", [numbered(0), numbered(1), numbered(2, (640, 480))])
    sizes = [(96, 128, 3), (96, 128, 3), (480, 640, 3)]
    with VideoFile(clip) as video:
        assert [frame.picture.shape for frame in video] == sizes
    with VideoFile(clip, max_pixels=640 * 480 - 1) as video:
        assert [frame.picture.shape for frame in video] == sizes[:2]


def test_a_small_file_that_claims_many_frames_takes_no_memory_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = save_clip(tmp_path / "clip.mp4", [numbered(0)] * 3)
    clip.write_bytes(boasting(clip.read_bytes(), 20_000_000))  # takes FFmpeg 1.4 GB
    monkeypatch.setattr(video_file, "READER_MEMORY", 300 * 2**20)
    with VideoFile(clip) as video:
        assert list(video) == []
        with pytest.raises(InvalidImage, match="broken off after 0 of 20000000 frames"):
            video.check_end()


@pytest.mark.slow
def test_a_video_may_take_so_long_and_no_longer(tmp_path: Path) -> None:
    path = save_clip(tmp_path / "clip.avi", [numbered(n, (640, 480)) for n in range(9)])
    with VideoFile(path, seconds=5) as video:
        taken = iter(video)
        next(taken)
        video._reader.wait(SECONDS)  # its other frames do not fit into a pipe
        assert len(list(taken)) < 8
        assert video.broken_off


def test_whoever_leaves_a_video_early_leaves_no_process(tmp_path: Path) -> None:
    path = save_clip(tmp_path / "clip.avi", [numbered(n, (640, 480)) for n in range(9)])
    with VideoFile(path) as video:
        next(iter(video))
        assert video._reader.poll() is None
    assert video._reader.returncode is not None


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(InvalidImage, match="Is a directory"):
        VideoFile(tmp_path)


def test_a_video_that_breaks_off_gives_what_it_has(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = save_clip(tmp_path / "clip.avi", [numbered(n, (640, 480)) for n in range(20)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with VideoFile(path) as video:
        numbers = [number_of(frame.picture) for frame in video]
        with pytest.raises(InvalidImage, match=rf"broken off after {len(numbers)} of 20 frames"):
            video.check_end()
    assert 5 < len(numbers) < 15
    assert numbers == list(range(len(numbers)))
    assert capfd.readouterr().err == ""


def test_a_video_that_lost_its_end_cannot_be_opened(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = save_clip(tmp_path / "clip.mp4", [numbered(n) for n in range(20)])
    path.write_bytes(path.read_bytes()[:-200])  # MP4 has its table of contents there
    with pytest.raises(InvalidImage, match="its beginning or end is lost"):
        VideoFile(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("name", "device"), [("0", 0), ("rtsp://door/1", "rtsp://door/1")])
def test_a_camera_has_a_number_or_an_address(
    capture: FakeCapture, name: str, device: int | str
) -> None:
    with Camera(name, capture) as camera:
        assert (camera.name, camera.fps, camera.live) == (f"camera {name}", 25, True)
        assert capture.name == device
        capture.frames.put(None)


def test_a_camera_gives_the_newest_frame_and_counts_the_others(capture: FakeCapture) -> None:
    with Camera("0", capture) as camera:
        for number in range(5):
            capture.frames.put(numbered(number))
        wait_until(lambda: camera.dropped == 4)
        frames = iter(camera)
        newest = next(frames)
        assert (newest.number, number_of(newest.picture)) == (4, 4)
        capture.frames.put(numbered(5))
        after = next(frames)
        assert (after.number, camera.dropped) == (5, 4)
        assert after.seconds > newest.seconds
        capture.frames.put(None)


def test_a_camera_that_ends_is_told_after_its_last_frame(capture: FakeCapture) -> None:
    with Camera("0", capture) as camera:
        frames = iter(camera)
        capture.frames.put(numbered(1))
        assert next(frames).number == 0
        capture.frames.put(None)
        assert list(frames) == []
        with pytest.raises(InvalidImage, match="camera 0: gives no more frames"):
            camera.check_end()
    assert capture.released.wait(SECONDS)


def test_a_camera_that_is_not_there_is_told_in_one_sentence(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(InvalidImage, match="camera 99: cannot be opened: there is none"):
        Camera("99")
    assert capfd.readouterr().err == ""
