"""A clip in, the clip with boxes out, and it plays."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import pytest
from playwright.sync_api import Page, expect

from tests.demo.actions import choose_tab, drop, payload, wait_until
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


def test_a_clip_comes_back_with_boxes_and_plays(
    page: Page, clip: bytes, forwarder: Forwarder
) -> None:
    choose_tab(page, "Video")
    asked = len(forwarder.images)
    drop(page, payload("smear.avi", clip), zone="clip")
    video = page.locator("#video-result video")
    expect(video).to_be_visible(timeout=60_000)
    assert len(forwarder.images) == asked + 12
    told = page.locator("#video-result .server")
    expect(told).to_contain_text(re.compile(r"smear\.avi: 12 frames in .* a second; in a frame"))
    video.evaluate("video => video.play()")
    wait_until(lambda: video.evaluate("video => video.ended"))
    assert video.evaluate("video => video.error") is None
    assert video.evaluate("video => [video.videoWidth, video.videoHeight]") == [580, 480]
    with page.expect_download() as download:
        page.locator("#video-result .downloads a").click()
    assert download.value.suggested_filename == "smear-detections.webm"


def test_a_file_that_is_no_video_gets_a_readable_message(page: Page) -> None:
    choose_tab(page, "Video")
    drop(page, payload("notes.txt", b"no video at all"), zone="clip")
    message = page.locator("#video-result .message.error")
    expect(message.locator("strong")).to_have_text("notes.txt cannot be used")
    expect(message.locator("p")).to_have_text(re.compile("^Not a video that can be read"))


def test_it_can_be_stopped(page: Page, clip: bytes, forwarder: Forwarder) -> None:
    choose_tab(page, "Video")
    forwarder.delay = 0.5  # seconds a frame
    try:
        drop(page, payload("smear.avi", clip), zone="clip")
        expect(page.locator("#video-result progress")).to_be_visible()
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#video-result .message strong")).to_have_text("No video yet")
        page.wait_for_timeout(1500)  # frames that were under way
        asked = len(forwarder.images)
        page.wait_for_timeout(1500)
        assert len(forwarder.images) == asked
    finally:
        forwarder.delay = 0.0
