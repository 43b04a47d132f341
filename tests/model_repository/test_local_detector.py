"""LocalDetector and the server give the same, to the last bit: boxes, scores, refusals."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from client import Detector, DetectorError, LocalDetector
from serving.server.server import EmbeddedServer, ServerSettings
from tests.conftest import PROJECT

REPOSITORY = PROJECT / "model_repository"
ORIENTATION = 0x0112  # EXIF's tag
PARAMETERS: list[dict[str, Any]] = [
    {},
    {"score_threshold": 0.05},
    {"score_threshold": 0.01, "iou_threshold": 0.9},
    {"score_threshold": 0, "iou_threshold": 0, "max_detections": 7},
]
Pair = tuple[LocalDetector, Detector]


@pytest.fixture(scope="module")
def int8(server: EmbeddedServer) -> Iterator[Pair]:
    """What is live as shipped."""
    with LocalDetector(REPOSITORY) as local, Detector(server.grpc_url, timeout=120) as served:
        yield local, served


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Version 1, which a server of its own serves."""
    first = tmp_path_factory.mktemp("first") / "models"
    shutil.copytree(REPOSITORY, first, ignore=shutil.ignore_patterns("2"))
    with (
        EmbeddedServer(ServerSettings(repository=first)) as server,
        LocalDetector(REPOSITORY, version=1) as local,
        Detector(server.grpc_url, timeout=120) as served,
    ):
        yield local, served


@pytest.fixture(params=["int8", "float32"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def photos(smear: Path, encode: Callable[..., bytes]) -> dict[str, bytes]:
    """One photo as files of all kinds."""
    image = Image.open(smear)
    gray = np.asarray(image.convert("L"))
    jpegs = {
        f"turned {turn}": encode(image.crop((0, 0, 639, 333)), "JPEG", exif=exif(turn))
        for turn in range(1, 9)
    }
    modes = {
        f"{mode} {kind}": encode(image.convert(mode), kind)
        for mode, kind in (
            *((mode, "PNG") for mode in ("1", "L", "LA", "P", "RGBA")),
            *((mode, "TIFF") for mode in ("1", "L", "RGB", "RGBA")),
            *((mode, "BMP") for mode in ("1", "L", "P", "RGB")),
            *((mode, "WEBP") for mode in ("RGB", "RGBA")),
            *((mode, "JPEG") for mode in ("L", "CMYK")),
        )
    }
    sizes = {
        f"{width}x{height}": encode(image.resize((width, height)), "JPEG", quality=90)
        for width, height in (
            (1, 1),
            (2, 3000),
            (3000, 2),
            (8000, 40),
            (333, 217),
            (1280, 960),  # from here on decoded at a reduced scale
            (2561, 1921),
            (4000, 3000),
        )
    }
    return {
        **{path.name: path.read_bytes() for path in (PROJECT / "samples").glob("*.jpg")},
        "16 bits": encode(Image.fromarray(gray.astype(np.uint16) * 257), "PNG"),
        "transparent colour": encode(image.convert("P"), "PNG", transparency=0),
        "progressive": encode(image, "JPEG", progressive=True),
        "no chroma subsampling": encode(image, "JPEG", subsampling=0),
        "compressed TIFF": encode(image, "TIFF", compression="tiff_lzw"),
        "lossless WebP": encode(image, "WEBP", lossless=True),
        "animation": encode(image, "PNG", save_all=True, append_images=[image.rotate(180)]),
        "more after the end": smear.read_bytes() + bytes(1000),
        "all black": encode(Image.new("RGB", (300, 300)), "PNG"),
        **jpegs,
        **modes,
        **sizes,
    }


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def outcome(detector: Any, image: Any, **parameters: Any) -> Any:
    """The result, or the error's type and words."""
    try:
        return detector.detect(image, **parameters)
    except DetectorError as error:
        return type(error), str(error)


def test_photos_of_all_kinds(pair: Pair, photos: dict[str, bytes]) -> None:
    local, served = pair
    found = 0
    for name, photo in photos.items():
        for parameters in PARAMETERS:
            result = served.detect(photo, **parameters)
            assert local.detect(photo, **parameters) == result, (name, parameters)
            found += len(result.detections)
    assert found > 1000


def test_results_are_the_same_down_to_their_types(int8: Pair, smear: Path) -> None:
    local, served = (replace(detector.detect(smear), server="") for detector in int8)

    assert repr(local) == repr(served)
    assert local.to_dict() == served.to_dict()


def test_arrays(pair: Pair) -> None:
    local, served = pair
    noise = np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8)

    for array in (noise, noise[..., 0], noise[:, ::-1], noise.astype(float), noise[:0]):
        assert outcome(local, array, score_threshold=0) == outcome(served, array, score_threshold=0)


def test_a_server_under_load(pair: Pair, photos: dict[str, bytes]) -> None:
    """Its networks then run with fewer threads."""
    local, served = pair

    results = list(served.detect_many(photos.values(), concurrency=8, score_threshold=0.01))

    assert results == list(local.detect_many(photos.values(), score_threshold=0.01))


def test_hostile_files(int8: Pair, hostile_files: dict[str, bytes], smear: Path) -> None:
    local, served = int8
    photo = smear.read_bytes()
    cut = {f"first {size} bytes": photo[:size] for size in (0, 1, 20, 700, len(photo) - 2)}
    for name, file in (hostile_files | cut).items():
        refusal = outcome(served, file)
        assert isinstance(refusal, tuple), name
        assert outcome(local, file) == refusal, name


def test_the_largest_image(int8: Pair, bomb: bytes) -> None:
    local, served = int8

    assert local.detect(bomb, score_threshold=0) == served.detect(bomb, score_threshold=0)


@pytest.mark.parametrize(
    "parameters",
    [
        {"score_threshold": -0.1},
        {"score_threshold": float("nan")},
        {"iou_threshold": float("inf")},
        {"iou_threshold": 1.0000000000000002},
        {"max_detections": 0},
        {"max_detections": 101},
        {"max_detections": 2**62},
        {"score_threshold": 2, "iou_threshold": 2, "max_detections": -1},
    ],
)
def test_wrong_parameters(int8: Pair, smear: Path, parameters: dict[str, Any]) -> None:
    local, served = int8
    for image in (smear, b"hello"):  # the image's own error comes first
        refusal = outcome(served, image, **parameters)
        assert isinstance(refusal, tuple)
        assert outcome(local, image, **parameters) == refusal


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(["JPEG", "PNG", "BMP", "TIFF", "WEBP"]),
    mode=st.sampled_from(["RGB", "L"]),
    width=st.integers(1, 1500),
    height=st.integers(1, 1500),
    turn=st.integers(0, 9),
    seed=st.integers(0, 2**32 - 1),
    parameters=st.fixed_dictionaries(
        {},
        optional={
            "score_threshold": st.floats(0, 0.1) | st.floats(0, 1),
            "iou_threshold": st.floats(0, 1),
            "max_detections": st.integers(1, 100),
        },
    ),
)
def test_any_image(
    int8: Pair,
    encode: Callable[..., bytes],
    kind: str,
    mode: str,
    width: int,
    height: int,
    turn: int,
    seed: int,
    parameters: dict[str, Any],
) -> None:
    local, served = int8
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)  # blobs, not noise
    image = Image.fromarray(coarse).resize((width, height)).convert(mode)
    options = {} if kind == "BMP" else {"exif": exif(turn)}
    file = encode(image, kind, **options)

    assert outcome(local, file, **parameters) == outcome(served, file, **parameters)
