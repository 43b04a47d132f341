"""The four models on a real server: formats, batches, parameters, bad images among good ones."""

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from PIL import Image
from tritonclient.utils import InferenceServerException

REFUSED = "StatusCode.INVALID_ARGUMENT"


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def photo(smear: Path) -> bytes:
    return smear.read_bytes()


def image_input(*files: bytes) -> list[triton.InferInput]:
    tensor = triton.InferInput("image", [len(files), 1], "BYTES")
    return [tensor.set_data_from_numpy(np.array(files, object).reshape(-1, 1))]


def counts(result: triton.InferResult) -> list[int]:
    return list(result.as_numpy("num_detections")[:, 0])


def refusal(client: triton.InferenceServerClient, *files: bytes, **parameters: Any) -> str:
    """The message of a request that must be refused with INVALID_ARGUMENT."""
    with pytest.raises(InferenceServerException) as caught:
        client.infer("ensemble", image_input(*files), parameters=parameters)
    assert caught.value.status() == REFUSED
    return caught.value.message().removeprefix("in ensemble 'ensemble', ")


def test_one_photo(client: triton.InferenceServerClient, photo: bytes) -> None:
    result = client.infer("ensemble", image_input(photo))

    width, height = Image.open(io.BytesIO(photo)).size
    assert result.as_numpy("image_size").tolist() == [[height, width]]
    (count,) = counts(result)
    assert count > 0
    scores = result.as_numpy("detection_scores")[0]
    assert (np.diff(scores[:count]) <= 0).all()
    assert scores[:count].min() > 0.5
    assert not scores[count:].any()
    labels = result.as_numpy("detection_labels")[0]
    assert set(labels[:count]) <= {b"RBC", b"WBC", b"Platelets"}
    assert set(labels[count:]) <= {b""}
    x1, y1, x2, y2 = result.as_numpy("detection_boxes")[0, :count].T
    assert ((x1 >= 0) & (x1 < x2) & (x2 <= width) & (y1 >= 0) & (y1 < y2) & (y2 <= height)).all()


def test_photos_of_different_formats_and_sizes_in_one_request(
    client: triton.InferenceServerClient, photo: bytes, encode: Callable[..., bytes]
) -> None:
    image = Image.open(io.BytesIO(photo))
    half = image.resize((image.width // 2, image.height // 2))
    files = [photo, *(encode(image, kind) for kind in ("PNG", "BMP", "TIFF")), encode(half, "WEBP")]

    result = client.infer("ensemble", image_input(*files))

    size = [image.height, image.width]
    assert result.as_numpy("image_size").tolist() == [size] * 4 + [[half.height, half.width]]
    assert len(set(counts(result)[:4])) == 1  # the same pixels


def test_batches_give_what_single_photos_give(
    client: triton.InferenceServerClient, photo: bytes, encode: Callable[..., bytes]
) -> None:
    turned = encode(Image.open(io.BytesIO(photo)).rotate(180), "PNG")

    together = client.infer("ensemble", image_input(photo, turned)).as_numpy("detection_boxes")

    for row, file in enumerate((photo, turned)):
        alone = client.infer("ensemble", image_input(file)).as_numpy("detection_boxes")[0]
        np.testing.assert_allclose(together[row], alone, atol=0.05)


def test_parameters(client: triton.InferenceServerClient, photo: bytes) -> None:
    def count(**parameters: Any) -> int:
        return counts(client.infer("ensemble", image_input(photo), parameters=parameters))[0]

    assert count(max_detections=1) == 1
    assert count(score_threshold=1) == 0
    assert count(score_threshold=0.01, iou_threshold=1) >= count(score_threshold=0.01) > 0
    assert count(score_threshold=0.01) >= count() == count(score_threshold=0.5, iou_threshold=0.45)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"score_threshold": "abc"}, "score_threshold is 'abc', a number from 0 to 1 expected"),
        ({"score_threshold": 2.0}, "score_threshold is 2.0, a number from 0 to 1 expected"),
        (
            {"score_threshold": float("nan")},
            "score_threshold is nan, a number from 0 to 1 expected",
        ),
        ({"iou_threshold": True}, "iou_threshold is True, a number from 0 to 1 expected"),
        ({"max_detections": 0}, "max_detections is 0, an integer from 1 to 100 expected"),
        ({"max_detections": 1.5}, "max_detections is 1.5, an integer from 1 to 100 expected"),
        ({"max_detections": 101}, "max_detections is 101, an integer from 1 to 100 expected"),
        (
            {"score_treshold": 0.5},
            "unknown parameter 'score_treshold', "
            "known are score_threshold, iou_threshold, max_detections",
        ),
    ],
)
def test_wrong_parameters(
    client: triton.InferenceServerClient, photo: bytes, parameters: dict[str, Any], message: str
) -> None:
    assert refusal(client, photo, **parameters) == message


def test_parameters_of_triton_are_no_misspellings(
    client: triton.InferenceServerClient, photo: bytes
) -> None:
    result = client.infer(
        "ensemble", image_input(photo), request_id="a", priority=1, timeout=10_000_000
    )

    assert result.get_response().id == "a"


def test_a_bad_image_is_named(client: triton.InferenceServerClient, photo: bytes) -> None:
    bad = {
        b"": "image 2: empty",
        b"hello": "image 2: not an image (JPEG, PNG, BMP, WebP or TIFF expected)",
        photo[: len(photo) // 2]: "image 2: truncated or damaged JPEG",
    }
    for file, message in bad.items():
        assert refusal(client, photo, photo, file, photo) == message


def test_other_requests_go_on(server: Any, photo: bytes) -> None:
    """Good and bad requests at the same time: each gets its own answer."""
    good = [index % 3 != 1 for index in range(60)]

    results = asyncio.run(infer_all(server.grpc_url, [photo if ok else b"hello" for ok in good]))

    assert [isinstance(result, triton_aio.InferResult) for result in results] == good
    assert {r.status() for r in results if isinstance(r, InferenceServerException)} == {REFUSED}


async def infer_all(url: str, files: list[bytes]) -> list[Any]:
    async with triton_aio.InferenceServerClient(url) as client:
        calls = [client.infer("ensemble", image_input(file)) for file in files]
        return await asyncio.gather(*calls, return_exceptions=True)
