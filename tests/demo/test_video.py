"""A clip in, the clip with boxes out, and it plays."""

import re
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import cv2
import pytest
from playwright.sync_api import Page, expect

from client import Detector
from demo import video
from demo.video import annotated
from serving.server.server import EmbeddedServer
from tests.client.clips import elsewhere, growing, misleading, numbered, save_clip
from tests.conftest import wait_until
from tests.demo.actions import choose_tab, drop, payload
from tests.demo.program import Forwarder


@pytest.fixture(scope="module")
def clip(smear: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """12 frames of a blood smear that moves."""
    path = tmp_path_factory.mktemp("video") / "smear.avi"
    picture = cv2.imread(str(smear))
    height, width = picture.shape[:2]
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (width - 60, height), True
    )
    for step in range(12):
        writer.write(picture[:, 5 * step : 5 * step + width - 60])
    writer.release()
    return path.read_bytes()


@pytest.fixture
def detector(trial_server: EmbeddedServer) -> Iterator[Detector]:
    with Detector(trial_server.grpc_url) as detector:
        yield detector


def test_a_clip_comes_back_with_boxes_and_plays(
    page: Page, clip: bytes, forwarder: Forwarder
) -> None:
    choose_tab(page, "Video")
    asked = len(forwarder.images)
    drop(page, payload("smear.avi", clip), zone="clip")
    played = page.locator("#video-result video")
    expect(played).to_be_visible(timeout=60_000)
    assert len(forwarder.images) == asked + 12
    told = page.locator("#video-result .server")
    expect(told).to_contain_text(re.compile(r"smear\.avi: 12 frames in .* a second; in a frame"))
    played.evaluate("video => video.play()")
    wait_until(lambda: played.evaluate("video => video.ended"))
    assert played.evaluate("video => video.error") is None
    assert played.evaluate("video => [video.videoWidth, video.videoHeight]") == [580, 480]
    with page.expect_download() as download:
        page.locator("#video-result .downloads a").click()
    assert download.value.suggested_filename == "smear-detections.webm"


def test_a_file_that_is_no_video_gets_a_readable_message(page: Page) -> None:
    choose_tab(page, "Video")
    drop(page, payload("notes.txt", b"no video at all"), zone="clip")
    message = page.locator("#video-result .message.error")
    expect(message.locator("strong")).to_have_text("notes.txt cannot be used")
    expect(message.locator("p")).to_have_text(re.compile("^Not a video that can be read"))


def test_a_video_elsewhere_on_the_server_is_out_of_reach(
    page: Page, clip: bytes, tmp_path: Path
) -> None:
    (tmp_path / "private.avi").write_bytes(clip)
    contents = misleading(tmp_path / "private.avi").values()
    for content, name in zip(contents, cycle(["clip.m3u8", "clip.mp4"]), strict=False):
        choose_tab(page, "Video")
        drop(page, payload(name, content), zone="clip")
        message = page.locator("#video-result .message.error")
        expect(message.locator("strong")).to_have_text(f"{name} cannot be used")
        expect(message.locator("p")).to_have_text(re.compile("^Not a video that can be read: MP4"))
        page.reload()


def test_frames_larger_than_4k_are_refused(detector: Detector, tmp_path: Path) -> None:
    path = save_clip(tmp_path / "clip.avi", [numbered(0, (4096, 2312))])
    *_, last = annotated(detector, str(path), {})
    assert last["message"]["headline"] == "clip.avi cannot be used"
    assert last["message"]["text"].startswith("Its frames of 4096x2312 are larger than the 9 mega")


def test_a_clip_that_gives_no_frame_is_told(detector: Detector, tmp_path: Path) -> None:
    path = save_clip(tmp_path / "clip.mp4", [numbered(0)] * 3)
    path.write_bytes(elsewhere(path.read_bytes(), b"other.mp4"))
    *_, last = annotated(detector, str(path), {})
    assert last["message"]["text"].startswith("Broken off after 0 of 3 frames")


def test_pictures_that_stay_count_as_often_as_they_are_shown(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "MOST_FRAMES", 20)
    path = growing(tmp_path / "clip.avi", [numbered(n) for n in range(9)], step=6)
    *_, last = annotated(detector, str(path), {})
    assert re.match(r"clip\.avi, the first 5 of it: 5 frames in ", last["facts"]["text"])


def test_it_can_be_stopped(page: Page, clip: bytes, forwarder: Forwarder) -> None:
    choose_tab(page, "Video")
    before = len(forwarder.images)
    forwarder.delay = 3  # seconds a frame
    try:
        drop(page, payload("smear.avi", clip), zone="clip")
        expect(page.locator("#video-result progress")).to_be_visible()
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#video-result .message strong")).to_have_text("No video yet")
        asked = -1
        while asked != len(forwarder.images):  # frames that were under way
            asked = len(forwarder.images)
            page.wait_for_timeout(5000)
        assert asked < before + 12
    finally:
        forwarder.delay = 0.0
