"""The page in a real Chromium, in front of a real Triton server with a canary.

Between them stands a forwarder that keeps the images as they arrive, and that can be taken away,
put back, or made slow.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from google.protobuf import text_format
from playwright.sync_api import Browser, Page, ViewportSize, expect
from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving.server.server import EmbeddedServer, ServerSettings
from tests.conftest import QUICK
from tests.demo.program import PROJECT, Forwarder, Program

WAIT_MILLISECONDS = 20_000  # for what the page is to show, on a busy machine
expect.set_options(timeout=WAIT_MILLISECONDS)


@pytest.fixture(scope="session")
def trial_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server of the shipped repository; version 1 of its network is the canary of version 2."""
    repository = make_trial_repository(tmp_path_factory.mktemp("trial"))
    settings = ServerSettings(repository=repository, arguments=QUICK, supervisor_port=0)
    with EmbeddedServer(settings) as running:
        yield running


def make_trial_repository(folder: Path) -> Path:
    """A copy of the shipped repository, with a canary that half of the keys get."""
    repository = folder / "models"
    shutil.copytree(PROJECT / "model_repository", repository)
    ssd = repository / "ssd" / "config.pbtxt"
    serve_all = ssd.read_text().replace("latest { num_versions: 1 }", "all { }")
    ssd.write_text(serve_all)
    postprocess = repository / "postprocess" / "config.pbtxt"
    postprocess.write_text(postprocess.read_text().replace('"0.45"', '"0.55"'))
    add_canary(repository)
    return repository


def add_canary(repository: Path) -> None:
    text = (repository / "ensemble" / "config.pbtxt").read_text()
    config = text_format.Parse(text, ModelConfig())
    config.name = "ensemble_canary"
    network = next(step for step in config.ensemble_scheduling.step if step.model_name == "ssd")
    network.model_version = 1
    config.parameters["canary_version"].string_value = "1"
    config.parameters["canary_share"].string_value = "0.5"
    folder = repository / config.name
    (folder / "1").mkdir(parents=True)
    (folder / "1" / ".keep").touch()
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config))


@pytest.fixture(scope="session")
def forwarder(trial_server: EmbeddedServer) -> Iterator[Forwarder]:
    forwarder = Forwarder(trial_server.grpc_url)
    yield forwarder
    forwarder.close()


@pytest.fixture(scope="session")
def address(forwarder: Forwarder) -> Iterator[str]:
    """The page's; the program behind it has to end well, and without a stack trace."""
    program = Program("--url", f"127.0.0.1:{forwarder.port}")
    yield program.address
    assert program.stop() == 0
    assert "Traceback" not in program.printed


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Opens the page in a browser of its own; all that it asks for comes from this machine."""
    contexts, requested, errors = [], [], []

    def open_page(width: int = 1280, height: int = 900, permissions: Sequence[str] = ()) -> Page:
        size = ViewportSize(width=width, height=height)
        contexts.append(browser.new_context(viewport=size, permissions=permissions))
        contexts[-1].set_default_timeout(WAIT_MILLISECONDS)
        page = contexts[-1].new_page()
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(address)
        expect(page.locator("#photos-result .message")).to_be_visible()
        return page

    yield open_page
    for context in contexts:
        context.close()
    outside = [url for url in requested if not url.startswith((address, "data:", "blob:"))]
    assert (outside, errors) == ([], [])


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()
