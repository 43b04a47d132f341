"""What all test folders share: a real server over the shipped repository, a photo, a browser."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from playwright.sync_api import Browser, sync_playwright

from serving.server import EmbeddedServer, ServerSettings

PROJECT = Path(__file__).parent.parent
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# A first call traces a TensorFlow function, which takes seconds on a busy machine.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


# A shell starts what it runs in the background with Ctrl-C ignored, and so would our children be.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """A running server over model_repository on free ports; tests only read from it."""
    with EmbeddedServer(ServerSettings(repository=PROJECT / "model_repository")) as running:
        yield running


@pytest.fixture(scope="session")
def smear() -> Path:
    """A rendered photo of a blood smear."""
    return PROJECT / "samples" / "smear-1.jpg"


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Photos and annotation folders that are no part of the project: `cases/`, `data/`."""
    folder = os.environ.get("SSD_TEST_DATA")
    if not folder:
        pytest.skip("needs data that is no part of the project; SSD_TEST_DATA names its folder")
    return Path(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless; a module's tests share it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.fail("These tests need Chromium: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()
