"""The visitor's camera, which is a file here."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import CHROMIUM_OPTIONS, wait_until
from tests.demo.actions import choose_tab, set_slider
from tests.demo.program import Forwarder


@pytest.fixture(scope="module")
def browser(smear: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose camera shows a blood smear."""
    film = tmp_path_factory.mktemp("camera") / "smear.mjpeg"
    film.write_bytes(smear.read_bytes() * 5)
    camera = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}"]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=[*CHROMIUM_OPTIONS, *camera]
        )
        yield browser
        browser.close()


def start(page: Page) -> None:
    choose_tab(page, "Camera")
    page.get_by_role("button", name="Start the camera").click()


def test_boxes_on_what_the_camera_sees(
    open_page: Callable[..., Page], forwarder: Forwarder
) -> None:
    page = open_page(permissions=["camera"])
    start(page)
    result = page.locator("#camera-result")
    expect(result.locator(".box").first).to_be_visible()
    expect(result.locator(".chip", has_text="WBC")).to_be_visible()
    expect(result.locator(".server")).to_contain_text(
        re.compile(r"frames/s · \d+ ms round trip · \d+ answered by ensemble, \d+ dropped")
    )
    set_slider(page, "score", 1)
    expect(result.locator(".box")).to_have_count(0)
    page.get_by_role("button", name="Stop the camera").click()
    page.wait_for_timeout(500)  # the frame that was under way
    sent = len(forwarder.images)
    page.wait_for_timeout(500)
    assert len(forwarder.images) == sent


def test_one_frame_is_under_way_and_the_others_are_dropped(
    open_page: Callable[..., Page], forwarder: Forwarder
) -> None:
    page = open_page(permissions=["camera"])
    page.evaluate(
        """() => {
            const first = CameraView.prototype.next;
            window.most = 0;
            CameraView.prototype.next = async function () {
                window.most = Math.max(window.most, window.under = (window.under ?? 0) + 1);
                try { await first.call(this); } finally { window.under -= 1; }
            };
        }"""
    )
    asked = len(forwarder.images)
    start(page)
    wait_until(lambda: len(forwarder.images) > asked + 3)
    assert page.evaluate("window.most") == 1


def test_a_camera_that_may_not_be_used_is_told(open_page: Callable[..., Page]) -> None:
    page = open_page()
    start(page)
    message = page.locator("#camera-result .message.error")
    expect(message.locator("strong")).to_have_text("No camera")
    expect(message.locator("p")).to_contain_text("not allowed")


def test_a_server_that_is_away_is_told(
    open_page: Callable[..., Page], forwarder: Forwarder
) -> None:
    page = open_page(permissions=["camera"])
    start(page)
    expect(page.locator("#camera-result .box").first).to_be_visible()
    forwarder.stop()
    try:
        expect(page.locator("#camera-result .message.error strong")).to_have_text(
            "The Triton server is away"
        )
    finally:
        forwarder.start()
