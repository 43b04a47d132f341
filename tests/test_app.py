"""The demo page in a real Chromium, in front of a real Triton server.

Between them stands a forwarder that keeps the requests as they arrive, and that can be taken away,
put back, or made slow. A picture of the page for the README:

    SCREENSHOT=docs/images/demo.png pytest tests/test_app.py -k screenshot
"""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect
from tritonclient.grpc import service_pb2

from client import Detector
from serving.server import EmbeddedServer

PROJECT = Path(__file__).parent.parent
SLOW = b"slow"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Forwarder(grpc.GenericRpcHandler):
    """A gRPC server that passes each call on to Triton, byte for byte, and keeps the requests."""

    def __init__(self, url: str) -> None:
        self.port = free_port()
        self.images: list[bytes] = []  # as they came in, in the order of the requests
        self.passing = threading.Event()  # cleared: images that end with SLOW wait here
        self._channel = grpc.insecure_channel(url)
        self.passing.set()
        self.start()

    def start(self) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[self])
        self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def close(self) -> None:
        self.passing.set()
        self.stop()
        self._channel.close()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def forward(request: bytes, context: grpc.ServicerContext) -> bytes:
            message = service_pb2.ModelInferRequest.FromString(request)
            self.images.append(message.raw_input_contents[0][4:])  # 4 bytes: its length
            if self.images[-1].endswith(SLOW):
                self.passing.wait(30)
            try:
                return self._channel.unary_unary(details.method)(request, timeout=30)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
                raise  # not reached: abort raises

        return grpc.unary_unary_rpc_method_handler(forward)


class Program:
    """`python app.py` with these options; `address` once it has printed one."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        command = [sys.executable, "app.py", "--port", str(self.port), *options]
        self.process = subprocess.Popen(
            command, cwd=PROJECT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.printed = ""

    @property
    def address(self) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            self.printed += line
            if found := re.search(r"Demo: (\S+)", line):
                return found[1]
        raise AssertionError(f"app.py printed no address, but: {self.printed}")

    def stop(self) -> int:
        """Exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        self.printed += self.process.communicate(timeout=30)[0]
        return self.process.returncode


@pytest.fixture(scope="module")
def forwarder(server: EmbeddedServer) -> Iterator[Forwarder]:
    forwarder = Forwarder(server.grpc_url)
    yield forwarder
    forwarder.close()


@pytest.fixture(scope="module")
def address(forwarder: Forwarder) -> Iterator[str]:
    program = Program("--url", f"127.0.0.1:{forwarder.port}")
    yield program.address
    assert program.stop() == 0
    assert "Traceback" not in program.printed


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Opens the page in a browser of its own; all that it asks for comes from this machine."""
    contexts, requested, errors = [], [], []

    def open_page(width: int = 1280, height: int = 900) -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}))
        page = contexts[-1].new_page()
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(address)
        expect(page.locator("#again")).to_be_visible(timeout=20_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    outside = [url for url in requested if not url.startswith((address, "data:", "blob:"))]
    assert (outside, errors) == ([], [])


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


def drop(page: Page, name: str, content: bytes) -> None:
    file = FilePayload(name=name, mimeType="application/octet-stream", buffer=content)
    page.set_input_files("#drop input[type=file]", file)


def drop_photo(page: Page, name: str, content: bytes) -> None:
    """Drops a photo and waits for its boxes."""
    drop(page, name, content)
    expect(page.locator(".facts")).to_contain_text(name)


def set_slider(page: Page, slider: str, value: float) -> None:
    number = page.locator(f"#{slider} input[type=number]")
    number.fill(str(value))
    number.press("Enter")


def reencoded(photo: Path, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    with Image.open(photo) as image:
        image.save(file, kind, **options)
    return file.getvalue()


def size_of(photo: Path) -> tuple[int, int]:
    """Width and height, pixels."""
    with Image.open(photo) as image:
        return image.size


def shown_size(page: Page) -> tuple[int, int]:
    """Width and height in pixels of the picture that the page shows."""
    image = page.locator(".photo img")
    return tuple(image.evaluate("image => [image.naturalWidth, image.naturalHeight]"))


# ---------------------------------------------------------------- photos


def test_a_dropped_photo_shows_boxes_counts_and_time(
    page: Page, smear: Path, server: EmbeddedServer
) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    with Detector(server.grpc_url) as detector:
        expected = detector.detect(smear)
    assert len(expected.detections) > 0
    expect(page.locator(".box")).to_have_count(len(expected.detections))
    counts = [f"{label} {count}" for label, count in expected.counts().items()]
    assert page.locator(".chip").all_inner_texts() == counts
    assert page.locator(".table tbody tr").count() == len(expected.detections)
    size = f"{expected.width} × {expected.height} px"  # noqa: RUF001 - the page writes it so
    expect(page.locator(".facts")).to_contain_text(size)
    assert re.match(r"\d+ ms round trip", page.locator(".facts").inner_text())


def box_edges(page: Page, index: int) -> list[float]:
    """Left, top, right, bottom of a box on the screen, as parts of the photo's width or height."""
    photo = page.locator(".photo img").bounding_box()
    box = page.locator(".box").nth(index).bounding_box()
    assert photo
    assert box
    left, top = box["x"] - photo["x"], box["y"] - photo["y"]
    horizontal = [left / photo["width"], (left + box["width"]) / photo["width"]]
    vertical = [top / photo["height"], (top + box["height"]) / photo["height"]]
    return [horizontal[0], vertical[0], horizontal[1], vertical[1]]


def test_boxes_of_a_photo_turned_by_exif_stand_where_the_client_says(
    page: Page, smear: Path, server: EmbeddedServer
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees clockwise
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        turned = reencoded(smear, kind, exif=exif)
        with Detector(server.grpc_url) as detector:
            expected = detector.detect(turned)
        width, height = expected.width, expected.height
        assert (height, width) == size_of(smear)
        drop_photo(page, f"turned.{kind}", turned)
        assert shown_size(page) == (width, height)
        best = expected.detections[0].box
        parts = [best.x1 / width, best.y1 / height, best.x2 / width, best.y2 / height]
        last = len(expected.detections) - 1  # the best lies on top
        assert box_edges(page, last) == pytest.approx(parts, abs=0.005)


def test_the_files_bytes_arrive_untouched(page: Page, smear: Path, forwarder: Forwarder) -> None:
    content = smear.read_bytes() + b"trailing bytes \0\0"
    drop_photo(page, "untouched.jpg", content)
    assert forwarder.images[-1] == content


def test_other_formats_are_shown_even_where_browsers_cannot(
    page: Page, smear: Path, forwarder: Forwarder
) -> None:
    for kind in ("TIFF", "PNG", "WEBP", "BMP"):
        content = reencoded(smear, kind)
        drop_photo(page, f"smear.{kind}", content)
        assert forwarder.images[-1] == content
        assert shown_size(page) == size_of(smear)


def test_an_example_is_clicked(page: Page, forwarder: Forwarder) -> None:
    page.locator("#examples button").nth(1).click()
    expect(page.locator(".box").first).to_be_visible()
    assert forwarder.images[-1] == sorted((PROJECT / "samples").glob("*.jpg"))[1].read_bytes()


def test_sliders_act_at_once(page: Page, smear: Path) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    set_slider(page, "most", 1)
    expect(page.locator(".box")).to_have_count(1)
    set_slider(page, "score", 1)
    expect(page.locator(".chip")).to_have_text("Nothing found above the score threshold")
    expect(page.locator(".box")).to_have_count(0)


def test_one_photo_after_another_can_be_dropped(page: Page, smear: Path) -> None:
    for name in ("first.jpg", "second.jpg"):
        drop_photo(page, name, smear.read_bytes())


def test_a_slow_answer_keeps_nobody_else_waiting(
    open_page: Callable[..., Page], smear: Path, forwarder: Forwarder
) -> None:
    slow, quick = open_page(), open_page()
    forwarder.passing.clear()
    drop(slow, "slow.jpg", smear.read_bytes() + SLOW)
    wait_until(lambda: forwarder.images[-1].endswith(SLOW))
    drop_photo(quick, "quick.jpg", smear.read_bytes())
    expect(slow.locator(".box")).to_have_count(0)
    forwarder.passing.set()
    expect(slow.locator(".facts")).to_contain_text("slow.jpg")


def wait_until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_screenshot(page: Page, smear: Path, tmp_path: Path) -> None:
    page.locator("#examples button").first.click()
    expect(page.locator(".box").first).to_be_visible()
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)  # transitions of colours
    path = Path(os.environ.get("SCREENSHOT", tmp_path / "demo.png"))
    picture = page.screenshot(animations="disabled")
    with Image.open(io.BytesIO(picture)) as image:  # 256 colours: half the file
        image.convert("RGB").quantize(256).save(path, optimize=True)
    assert size_of(path)[0] == 1280
    assert path.stat().st_size < 300_000


# ---------------------------------------------------------------- what goes wrong


def test_a_file_that_is_no_photo_gets_a_readable_message(page: Page, smear: Path) -> None:
    photo = smear.read_bytes()
    files = {
        "notes.txt": (b"no photo at all", "Not an image (JPEG, PNG, BMP, WebP or TIFF expected)"),
        "disguised.jpg": (
            b"no photo at all",
            "Not an image (JPEG, PNG, BMP, WebP or TIFF expected)",
        ),
        "half.jpg": (photo[: len(photo) // 2], "Truncated or damaged JPEG"),
        "empty.jpg": (b"", "Empty"),
    }
    for name, (content, text) in files.items():
        drop(page, name, content)
        expect(page.locator(".message.error strong")).to_have_text(f"{name} cannot be used")
        expect(page.locator(".message.error p")).to_have_text(text)


def test_a_number_no_threshold_can_have_gets_a_readable_message(page: Page, smear: Path) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    set_slider(page, "score", 7)
    expect(page.locator(".message.error p")).to_contain_text("score_threshold")


def test_no_photo_gets_a_readable_message(page: Page) -> None:
    page.locator("#again").click()
    expect(page.locator(".message.hint strong")).to_have_text("No photo yet")


def test_a_file_over_the_limit_gets_a_readable_message(page: Page, tmp_path: Path) -> None:
    huge = tmp_path / "huge.jpg"
    with huge.open("wb") as file:
        file.truncate(33 * 2**20)
    page.set_input_files("#drop input[type=file]", huge)
    expect(page.locator("body")).to_contain_text(re.compile("maximum allowed size of 32"))
    expect(page.locator(".message.hint strong")).to_have_text("No photo yet")


def test_a_server_that_is_away_is_told_and_may_come_back(
    page: Page, smear: Path, forwarder: Forwarder
) -> None:
    forwarder.stop()
    drop(page, "smear.jpg", smear.read_bytes())
    expect(page.locator(".message.error strong")).to_have_text("The Triton server is away")
    expect(page.locator(".message.error p")).to_contain_text(f"127.0.0.1:{forwarder.port}")
    forwarder.start()
    time.sleep(1.5)  # the client looks again every second
    page.locator("#again").click()
    expect(page.locator(".box").first).to_be_visible()


def test_it_fits_a_phone(open_page: Callable[..., Page], smear: Path) -> None:
    page = open_page(width=375, height=700)
    drop_photo(page, "smear.jpg", smear.read_bytes())
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    result, settings = (page.locator(part).bounding_box() for part in ("#result", "#settings"))
    assert result
    assert settings
    assert result["y"] < settings["y"]


# ---------------------------------------------------------------- the program


def free_ports() -> list[str]:
    names = ("--http-port", "--grpc-port", "--metrics-port")
    return [part for name in names for part in (name, str(free_port()))]


def test_embedded_starts_and_stops_both(smear: Path) -> None:
    ports = free_ports()
    program = Program("--embedded", *ports)
    assert program.address == f"http://127.0.0.1:{program.port}"
    with Detector(f"127.0.0.1:{ports[3]}") as detector:
        detector.detect(smear)
    assert program.stop() == 0
    assert "Traceback" not in program.printed
    for port in (program.port, *map(int, ports[1::2])):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize("option", ["--port", "--grpc-port"])
def test_a_port_in_use_is_one_sentence(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        program = Program("--embedded", *free_ports(), option, port)
        printed = program.process.communicate(timeout=60)[0].strip()
    assert program.process.returncode == 1
    assert port in printed
    assert "Traceback" not in printed
    assert "app.py: " in printed.splitlines()[-1]


def test_a_wrong_address_is_wrong_usage() -> None:
    program = Program("--url", "ftp://127.0.0.1:8001")
    printed = program.process.communicate(timeout=60)[0].strip()
    assert program.process.returncode == 2
    assert len(printed.splitlines()) == 1
