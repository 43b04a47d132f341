"""What all test folders share: a real server over the shipped repository, a photo, a browser."""

import inspect
import logging
import os
import shutil
import signal
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest
from playwright.sync_api import Browser, sync_playwright
from prometheus_client.parser import text_string_to_metric_families

from serving.server import server as server_module
from serving.server.server import FIXED, EmbeddedServer, ServerSettings

PROJECT = Path(__file__).parent.parent
# For servers of tests, over configurations that are complete: they start in a sixth of the time.
QUICK = ("--disable-auto-complete-config",)
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

# Who asks for one of these waits for a server, a browser or a compiler.
SLOW_FIXTURES = frozenset(
    {"browser", "dropping", "example", "fleet", "guarded", "image_server", "server", "served"}
    | {"triton", "trial_server", "watched"}
)

Found = TypeVar("Found")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def wait_until(
    attempt: Callable[[], Found],
    seconds: float = 120,
    retry: type[Exception] | tuple[type[Exception], ...] = (),
) -> Found:
    """What the attempt returns as soon as that is true; errors of `retry` mean "not yet".

    Fails with the attempt's line and the values in it. The limit only ends what has gone wrong.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := attempt():
                return found
        except retry:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {describe_attempt(attempt)}")
        time.sleep(0.02)


def read_metrics(url: str) -> Samples:
    """All samples of a metrics address, by name and labels; of counters as the parser calls them,
    which ends every one with _total."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in families for sample in family.samples]
    return {(each.name, frozenset(each.labels.items())): each.value for each in samples}


def describe_attempt(attempt: Callable[[], object]) -> str:
    """Its line in the test, and the values that it sees."""
    if not inspect.isfunction(attempt):
        return repr(attempt)
    return f"{inspect.getsource(attempt).strip()} with {inspect.getclosurevars(attempt).nonlocals}"


# A shell starts what it runs in the background with Ctrl-C ignored, and so would our children be.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what needs a slow fixture, by itself or through another fixture."""
    for item in items:
        if SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _quick_starts() -> Iterator[None]:
    """Servers of tests start in half the time: Triton does not complete their configurations.

    Those are complete: tests/serving/server/test_server.py compares both. `completing` undoes it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "FIXED", (*FIXED, "--disable-auto-complete-config"))
        yield


@contextmanager
def completing() -> Iterator[None]:
    """Servers that start meanwhile complete configurations, as they do for users."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "FIXED", FIXED)
        yield


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


class SmallDisk:
    """A real disk of 32 MB to run full; `contents` are its files with what they hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, left: int = 0) -> None:
        """Leave so many bytes."""
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)) == 4096:
                pass
        os.truncate(self._filler, self._filler.stat().st_size - left)

    def free(self) -> None:
        self._filler.unlink()

    def contents(self) -> dict[str, bytes]:
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path): path.read_bytes() for path in files if path != self._filler}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system, to run it full")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """Host and port of a real server that speaks S3's protocol, its credentials set."""
    from moto.server import ThreadedMotoServer  # seconds that few tests need

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    credentials = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in credentials.items():
            environment.setenv(name, value)
        server.start()
        yield "{}:{}".format(*server.get_host_and_port())
        server.stop()


@pytest.fixture
def s3(moto_server: str) -> str:
    """Address of an empty place in a fresh bucket."""
    return make_bucket(moto_server)


def make_bucket(moto_server: str) -> str:
    """Make a bucket. Returns the address of an empty place in it."""
    import boto3

    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    client = boto3.client("s3", endpoint_url=f"http://{moto_server}")
    client.create_bucket(Bucket=bucket)
    client.close()
    return f"s3://{moto_server}/{bucket}/models"


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
