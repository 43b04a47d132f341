"""What a real tritonserver does with requests whose client has gone."""

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient

from client import AsyncDetector, DeadlineExceeded, Detector, Result
from serving.server.server import EmbeddedServer, ServerSettings
from tests.conftest import PROJECT, QUICK
from tests.model_repository.conftest import png

pytestmark = pytest.mark.anyio
AT_ONCE = 30
SLOW = png(4000, 4000, 4000 * 501, bits=1, colours=0)  # 2 KB that take a moment to decode


PAGE = PROJECT / "docs" / "client.md"


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server of the shipped models, with what the page wants at the end of preprocess's file."""
    models = tmp_path_factory.mktemp("dropping") / "models"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "model_repository", models, ignore=ignore)
    (lines,) = re.findall(r"^```\n(dynamic_batching.*?)^```", PAGE.read_text(), re.S | re.M)
    with (models / "preprocess" / "config.pbtxt").open("a") as file:
        file.write(lines)
    with EmbeddedServer(ServerSettings(models, probe_seconds=600, arguments=QUICK)) as running:
        yield running


def decoded(server: EmbeddedServer) -> int:
    """Return how many images the server has decoded so far."""
    with InferenceServerClient(server.grpc_url) as client:
        (model,) = client.get_inference_statistics("preprocess").model_stats
    return int(model.inference_stats.success.count)


@pytest.fixture
def computed(dropping: EmbeddedServer, smear: Path) -> Callable[[], int]:
    """Computed() -> how many images were decoded meanwhile, once none waits any more."""
    before = decoded(dropping)

    def after() -> int:
        with Detector(dropping.grpc_url, timeout=60) as detector:
            detector.detect(smear)  # takes its turn behind the others
        return decoded(dropping) - before - 1

    return after


def url_of(server: EmbeddedServer, protocol: str) -> str:
    return server.grpc_url if protocol == "gRPC" else f"http://{server.http_url}"


@pytest.mark.parametrize("protocol", ["gRPC", "HTTP"])
def test_requests_that_wait_when_the_timeout_passes_are_not_computed(
    dropping: EmbeddedServer, computed: Callable[[], int], protocol: str
) -> None:
    with Detector(url_of(dropping, protocol), timeout=0.3) as detector:
        outcomes = detector.detect_many([SLOW] * AT_ONCE, concurrency=AT_ONCE, errors="return")
        kinds = Counter(map(type, outcomes))
    assert set(kinds) <= {DeadlineExceeded, Result}
    assert computed() < AT_ONCE


@pytest.mark.parametrize("protocol", ["gRPC", "HTTP"])
async def test_requests_of_cancelled_tasks_are_not_computed_once_the_timeout_has_passed(
    dropping: EmbeddedServer, computed: Callable[[], int], protocol: str
) -> None:
    async with AsyncDetector(url_of(dropping, protocol), timeout=0.3) as detector:
        tasks = [asyncio.create_task(detector.detect(SLOW)) for _ in range(AT_ONCE)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {asyncio.CancelledError, Result}
    assert await asyncio.to_thread(computed) < AT_ONCE


async def test_a_model_that_is_no_ensemble_drops_them_at_once(
    dropping: EmbeddedServer, computed: Callable[[], int]
) -> None:
    """Triton 2.51 cancels what waits for a model, but not what waits for an ensemble's step."""
    async with AsyncDetector(dropping.grpc_url, model="preprocess") as detector:
        tasks = [asyncio.create_task(detector.detect(SLOW)) for _ in range(AT_ONCE)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert await asyncio.to_thread(computed) < AT_ONCE
