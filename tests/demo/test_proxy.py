"""The page behind the nginx of docs/demo.md, at a sub-path and under another name."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import wait_until
from tests.demo.actions import choose_tab, drop, drop_photo, payload
from tests.demo.program import PROJECT, Forwarder, Program, free_port
from tests.demo.test_video import clip  # noqa: F401 (a fixture)

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
CONFIGURATION = """
daemon off;
pid {folder}/pid;
error_log {folder}/errors;
events {{}}
http {{
    access_log {folder}/requests;
    include /etc/nginx/mime.types;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""


def documented(upstream: int) -> str:
    """The configuration that docs/demo.md tells people to use, for a page at this port."""
    text = (PROJECT / "docs" / "demo.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)
    assert ":7860/" in block
    return str(block).replace(":7860/", f":{upstream}/")


@pytest.fixture(scope="module")
def proxied(forwarder: Forwarder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's address at the proxy, localhost by name."""
    if not Path(NGINX).is_file():
        pytest.skip("needs nginx: apt-get install nginx-light")
    program = Program("--url", f"127.0.0.1:{forwarder.port}", "--root-path", "/detect")
    upstream, port, folder = program.address, free_port(), tmp_path_factory.mktemp("nginx")
    location = documented(int(upstream.rsplit(":", 1)[1]))
    (folder / "nginx.conf").write_text(
        CONFIGURATION.format(folder=folder, port=port, location=location)
    )
    nginx = subprocess.Popen(
        [NGINX, "-p", folder, "-e", folder / "errors", "-c", folder / "nginx.conf"]
    )
    wait_until(lambda: (folder / "pid").is_file())
    yield f"http://localhost:{port}/detect/"
    nginx.terminate()
    nginx.wait(30)
    requests = (folder / "requests").read_text().splitlines()
    assert [line for line in requests if "/detect/" in line and " 404 " in line] == []
    assert program.stop() == 0
    assert "Traceback" not in program.printed


@pytest.fixture
def page(browser: Browser, proxied: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(proxied)
    expect(page.locator("#photos-result .message")).to_be_visible()
    yield page
    context.close()
    assert [url for url in requested if not url.startswith((proxied, "data:", "blob:"))] == []


def test_a_photo_is_boxed_and_drawn(page: Page, smear: Path) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    expect(page.locator(".box").first).to_be_visible()
    shown = page.locator("#photos-result .photo img")
    wait_until(lambda: shown.evaluate("image => image.naturalWidth") == 640)
    with page.expect_download() as download:
        page.get_by_role("button", name="Picture").click()
    assert download.value.suggested_filename == "smear-detections.jpg"
    assert Path(download.value.path()).read_bytes().startswith(b"\xff\xd8\xff")


def test_an_example_is_seen_and_compared(page: Page) -> None:
    choose_tab(page, "Compare")
    example = page.locator("#compare-examples button").first
    image = example.locator("img")
    wait_until(lambda: image.evaluate("image => image.naturalWidth") > 0)
    example.click()
    expect(page.locator(".differences")).to_be_visible()


def test_a_clip_plays_after_progress_has_been_seen(
    page: Page,
    clip: bytes,  # noqa: F811
    forwarder: Forwarder,
) -> None:
    choose_tab(page, "Video")
    forwarder.delay = 0.5  # seconds a frame: progress must not wait for the end
    try:
        drop(page, payload("smear.avi", clip), zone="clip")
        expect(page.locator("#video-result progress")).to_be_visible()
        expect(page.locator("#video-result .message p")).to_contain_text("of 12 frames")
    finally:
        forwarder.delay = 0.0
    video = page.locator("#video-result video")
    expect(video).to_be_visible(timeout=60_000)
    wait_until(lambda: video.evaluate("video => video.videoWidth") == 580)


def test_the_camera_function_is_found(page: Page) -> None:
    answer = page.evaluate(
        """async () => {
            const { components, root } = await (await fetch("config")).json();
            const camera = components.find((one) => one.props.elem_id === "camera-result");
            const call = { component_id: camera.id, fn_name: "detect_frame", session_hash: "one" };
            const body = JSON.stringify({ ...call, data: ["", 0.45] });
            const url = `${root}/gradio_api/component_server`;
            return (await fetch(url, { method: "POST", body })).json();
        }"""
    )
    assert answer["error"]["headline"] == "The frame cannot be used"


def test_a_larger_photo_than_nginx_takes_by_itself_comes_through(page: Page, smear: Path) -> None:
    drop_photo(page, "large.jpg", smear.read_bytes() + b"\0" * 3_000_000)
    expect(page.locator(".box").first).to_be_visible()
