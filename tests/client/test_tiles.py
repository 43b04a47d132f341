from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import Box, Detection, Detector, InvalidImage, InvalidParameter, Result, tiles
from client.tiles import Window, detect_tiled
from serving.server.server import EmbeddedServer
from tests.client.bombs import huge_png
from tests.client.conftest import turned

WIDTH, HEIGHT = 2000, 1500
INPUT = 300  # pixels, a network's input size


class Blobs:
    """A detector of dark blobs that sees as coarsely as a network does, and as surely.

    A blob's class is 1 if it is black and 0 if it is grey; its score is higher the larger it is.
    """

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.parameters: dict[str, Any] = {}

    def detect_many(
        self, images: Iterable[Any], *, concurrency: int, **parameters: Any
    ) -> Iterator[Result]:
        self.parameters = parameters
        for image in images:
            picture = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE)
            height, width = picture.shape
            self.sizes.append((width, height))
            small = cv2.resize(picture, (INPUT, INPUT), interpolation=cv2.INTER_AREA)
            across, down = width / INPUT, height / INPUT
            _, _, stats, _ = cv2.connectedComponentsWithStats((small < 160).astype(np.uint8))
            found = [
                Detection(
                    "blob",
                    int(small[y + h // 2, x + w // 2] < 60),
                    0.5 + min(w, h) / INPUT / 2,
                    Box(x * across, y * down, (x + w) * across, (y + h) * down),
                )
                for x, y, w, h, _ in stats[1:].tolist()
                if min(w, h) >= 10
            ]
            yield Result(tuple(found), width, height, "blobs", "here")


def picture_with(*boxes_xyxy: tuple[int, int, int, int], level: int = 0) -> np.ndarray:
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    for x1, y1, x2, y2 in boxes_xyxy:
        picture[y1:y2, x1:x2] = level
    return picture


def boxes_of(result: Result) -> list[tuple[float, float, float, float]]:
    boxes = [detection.box for detection in result.detections]
    return sorted((box.x1, box.y1, box.x2, box.y2) for box in boxes)


@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    tile=st.integers(50, 1000),
    overlap=st.floats(0, 0.9),
)
def test_tiles_cover_the_picture_and_overlap(
    width: int, height: int, tile: int, overlap: float
) -> None:
    for length in (width, height):
        side = min(tile, length)
        starts = tiles.starts(length, side, overlap)
        assert starts[0] == 0
        assert starts[-1] + side == length
        steps = np.diff(starts)
        assert (steps <= side * (1 - overlap) + 1).all()
        assert (steps > 0).all() or length == side


def test_a_picture_of_a_tiles_size_is_not_cut() -> None:
    assert tiles.windows(640, 480, 640, 0.25) == [Window(0, 0, 640, 480)]


def test_a_picture_that_is_not_cut_is_sent_untouched() -> None:
    sent: list[Any] = []

    class Keeps(Blobs):
        def detect_many(self, images: Any, **options: Any) -> Iterator[Result]:
            sent.extend(images)
            yield Result((), 640, 480)

    jpeg = cv2.imencode(".jpg", np.full((480, 640, 3), 255, np.uint8))[1].tobytes()
    assert detect_tiled(Keeps(), jpeg) == Result((), 640, 480)
    assert sent == [jpeg]


def test_tiles_lie_evenly_row_by_row() -> None:
    assert tiles.windows(1000, 600, 600, 0) == [
        Window(0, 0, 1000, 600),
        Window(0, 0, 600, 600),
        Window(400, 0, 600, 600),
    ]


def test_an_empty_picture_has_nothing() -> None:
    result = detect_tiled(Blobs(), picture_with())
    assert result == Result((), WIDTH, HEIGHT)
    assert result.model == "blobs"
    assert result.server == "here"


def test_no_tile_is_larger_than_asked_for_and_the_whole_is_shrunk_to_it() -> None:
    blobs = Blobs()
    detect_tiled(blobs, picture_with(), tile=640)
    assert blobs.sizes[0] == (640, 480)
    assert set(blobs.sizes[1:]) == {(640, 640)}


def test_small_objects_are_found_in_tiles_only() -> None:
    small = [(100, 100, 140, 140), (1900, 1400, 1940, 1440), (1000, 700, 1040, 750)]
    picture = picture_with(*small)
    alone = next(Blobs().detect_many([cv2.imencode(".png", picture)[1].tobytes()], concurrency=1))
    assert alone.detections == ()
    assert boxes_of(detect_tiled(Blobs(), picture)) == [
        pytest.approx(box, abs=3) for box in sorted(small)
    ]


@pytest.mark.parametrize("x", range(200, 800, 40))
def test_an_object_at_an_edge_of_tiles_is_found_once_and_whole(x: int) -> None:
    box = (x, x, x + 130, x + 120)
    assert boxes_of(detect_tiled(Blobs(), picture_with(box))) == [pytest.approx(box, abs=3)]


def test_an_object_at_the_pictures_own_edge_is_not_cut() -> None:
    corners = [(0, 0, 50, 50), (WIDTH - 50, HEIGHT - 50, WIDTH, HEIGHT)]
    assert boxes_of(detect_tiled(Blobs(), picture_with(*corners))) == [
        pytest.approx(box, abs=3) for box in corners
    ]


@pytest.mark.parametrize("side", [170, 400, 900, 1450])
def test_an_object_larger_than_the_overlap_is_found_once_and_whole(side: int) -> None:
    box = (30, 20, 30 + side, 20 + side)
    assert boxes_of(detect_tiled(Blobs(), picture_with(box))) == [pytest.approx(box, abs=9)]


def test_what_ends_in_the_margins_of_two_tiles_is_found_in_the_whole() -> None:
    box = (430, 20, 710, 300)  # the tiles of 715 are 0..715 and 428..1143; the overlap is 286
    found = boxes_of(detect_tiled(Blobs(), picture_with(box), tile=715))
    assert found == [pytest.approx(box, abs=9)]


def test_classes_do_not_suppress_each_other() -> None:
    picture = picture_with((100, 100, 200, 200), level=120)
    picture[110:190, 110:190] = 0

    class Both(Blobs):
        """Finds each blob as both classes."""

        def detect_many(self, *args: Any, **options: Any) -> Iterator[Result]:
            for result in super().detect_many(*args, **options):
                twins = [Detection("twin", 7, d.score, d.box) for d in result.detections]
                yield Result((*result.detections, *twins), result.width, result.height)

    found = detect_tiled(Both(), picture)
    assert sorted(detection.label for detection in found.detections) == ["blob", "twin"]


def test_the_best_come_first_and_no_more_than_asked_for() -> None:
    picture = picture_with((100, 100, 140, 140), (1000, 100, 1060, 160), (1800, 100, 1850, 150))
    blobs = Blobs()
    found = detect_tiled(blobs, picture, max_detections=2, score_threshold=0.25)
    assert [round(detection.box.x1, -2) for detection in found.detections] == [1000, 1800]
    assert blobs.parameters == {
        "score_threshold": 0.25,
        "iou_threshold": None,
        "max_detections": 2,
    }


def test_boxes_are_those_of_the_upright_picture() -> None:
    jpeg = cv2.imencode(".jpg", picture_with((100, 200, 150, 250)))[1].tobytes()
    found = detect_tiled(Blobs(), turned(jpeg))  # a quarter clockwise
    assert (found.width, found.height) == (HEIGHT, WIDTH)
    assert boxes_of(found) == [pytest.approx((HEIGHT - 250, 100, HEIGHT - 200, 150), abs=3)]


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"hello")
    with pytest.raises(InvalidImage, match=r"photo\.jpg: cannot be decoded"):
        detect_tiled(Blobs(), tmp_path / "photo.jpg")


@pytest.mark.slow
def test_tiles_are_for_large_pictures_up_to_a_limit() -> None:
    blobs = Blobs()
    detect_tiled(blobs, huge_png(9000, 8000), tile=9000)  # more than the server would decode
    assert blobs.sizes == [(9000, 8000)]
    with pytest.raises(InvalidImage, match=r"is 900\.0 megapixels, the limit is 268\.4"):
        detect_tiled(blobs, huge_png())


@pytest.mark.parametrize("wrong", [{"tile": 63}, {"overlap": -0.1}, {"overlap": 1.0}])
def test_tiles_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match="tile must be 64 or more"):
        detect_tiled(Blobs(), picture_with(), **wrong)


def test_the_real_server_finds_the_cells_of_many_photos_in_one(
    server: EmbeddedServer, smear: Path
) -> None:
    rows = [[cv2.imread(str(smear))] * 3] * 3
    mosaic = cv2.vconcat([cv2.hconcat(row) for row in rows])
    rgb = np.ascontiguousarray(mosaic[..., ::-1])
    with Detector(server.grpc_url) as detector:
        one = len(detector.detect(smear).detections)
        coarse = len(detector.detect(rgb).detections)
        found = detect_tiled(detector, rgb)
    assert len(found.detections) > 0.8 * 9 * one
    assert len(found.detections) > 2 * coarse
