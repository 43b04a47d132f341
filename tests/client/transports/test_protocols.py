"""Whatever the protocol, and for threads and tasks: the same results and the same errors."""

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import AsyncDetector, Detector, DetectorError, InvalidImage, Result
from serving.server.server import EmbeddedServer
from tests.client.conftest import save_photo
from tests.model_repository.conftest import bmp, png, tiff

pytestmark = pytest.mark.anyio
Detect = Callable[..., Awaitable[Result]]
KINDS = ["HTTP, threads", "gRPC, tasks", "HTTP, tasks"]  # each is compared with gRPC, threads


PARAMETERS: list[dict[str, Any]] = [
    {},
    {"score_threshold": 0, "iou_threshold": 1, "max_detections": 9},
]


@pytest.fixture
def urls(server: EmbeddedServer) -> dict[str, str]:
    return {"gRPC": server.grpc_url, "HTTP": f"http://{server.http_url}"}


@pytest.fixture(params=KINDS)
async def other(request: pytest.FixtureRequest, urls: dict[str, str]) -> AsyncIterator[Any]:
    """Other(model) -> detect: a detector's method, awaited in any case."""
    protocol, flavour = request.param.split(", ")
    opened: list[Any] = []

    def detect_by(model: str = "ensemble") -> Detect:
        if flavour == "tasks":
            opened.append(AsyncDetector(urls[protocol], model=model))
            return opened[-1].detect
        opened.append(Detector(urls[protocol], model=model))
        return awaited(opened[-1].detect)

    yield detect_by
    for detector in opened:
        closing = detector.close()
        if closing is not None:
            await closing


def awaited(detect: Callable[..., Result]) -> Detect:
    async def wrapped(*args: Any, **kwargs: Any) -> Result:
        return detect(*args, **kwargs)

    return wrapped


@pytest.fixture
def photos(smear: Path, tmp_path: Path) -> list[Any]:
    """A photo as a path and as bytes, arrays, and files of other formats."""
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    files = [save_photo(tmp_path / f"a{suffix}") for suffix in (".png", ".bmp", ".webp", ".tif")]
    return [smear, smear.read_bytes(), pixels, pixels[..., 0], *files]


async def test_results_are_equal_to_the_last_bit(
    other: Callable[..., Detect], urls: dict[str, str], photos: list[Any]
) -> None:
    detect = other()
    with Detector(urls["gRPC"]) as detector:
        for photo in photos:
            for parameters in PARAMETERS:
                result = await detect(photo, **parameters)
                assert result == detector.detect(photo, **parameters)
                assert result.model == "ensemble"
                assert result.server in urls.values()


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "text": b"hello",
    "zeros": bytes(1000),
    "random": np.random.default_rng(0).bytes(100_000),
    "JPEG signature": b"\xff\xd8\xff",
    "PNG that claims 400 megapixels": png(20000, 20000, 100),
    "PNG with less data than it claims": png(5000, 5000, 100),
    "BMP of negative size": bmp(-8, -8),
    "TIFF of a huge count": tiff({256: (4, 2**32 - 1, 8)}),
    "a length of its own": struct.pack("<I", 2**32 - 1) + b"image",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_bytes_get_the_same_words(
    other: Callable[..., Detect], urls: dict[str, str], name: str
) -> None:
    error = await told(other()(HOSTILE[name]), urls)
    with Detector(urls["gRPC"]) as detector:
        assert error == await told(awaited(detector.detect)(HOSTILE[name]), urls)
    assert error[0] is InvalidImage


async def told(outcome: Awaitable[Result], urls: dict[str, str]) -> tuple[type, str]:
    """Return the error's class and its words, the address left out."""
    with pytest.raises(DetectorError) as raised:
        await outcome
    text = str(raised.value)
    for url in sorted(urls.values(), key=len, reverse=True):
        text = text.replace(url, "ADDRESS")
    return type(raised.value), text


@pytest.mark.parametrize(
    "parameters",
    [
        {"score_threshold": 7},
        {"score_threshold": -0.5},
        {"score_threshold": float("nan")},
        {"iou_threshold": 1e300},
        {"max_detections": 0},
        {"max_detections": 101},
        {"max_detections": 2**62},
        {"max_detections": -(2**63)},
        {"max_detections": 2**63},
    ],
)
async def test_parameters_out_of_range_get_the_same_words(
    other: Callable[..., Detect], urls: dict[str, str], smear: Path, parameters: dict[str, Any]
) -> None:
    error = await told(other()(smear, **parameters), urls)
    with Detector(urls["gRPC"]) as detector:
        assert error == await told(awaited(detector.detect)(smear, **parameters), urls)


@pytest.mark.parametrize("model", ["nothing", "ssd", "preprocess"])
async def test_another_model_gets_the_same_words(
    other: Callable[..., Detect], urls: dict[str, str], smear: Path, model: str
) -> None:
    error = await told(other(model)(smear), urls)
    with Detector(urls["gRPC"], model=model) as detector:
        assert error == await told(awaited(detector.detect)(smear), urls)


async def test_an_image_over_the_limit_is_not_sent(urls: dict[str, str], smear: Path) -> None:
    for url in urls.values():
        with Detector(url, max_bytes=1000) as detector, pytest.raises(InvalidImage) as raised:
            detector.detect(smear)
        assert str(raised.value).startswith(f"{smear}: {smear.stat().st_size:,} bytes, more than")
