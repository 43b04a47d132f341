"""What tiles find in large pictures of small objects, and what they cost.

    python -m benchmarks.tiles data/val.json --output benchmarks/results/tiles.json

The photos of an evaluation set (`python -m training coco`), all of one size, are laid side by side
into large pictures, which are then sent whole and in tiles. mAP is counted photo by photo: each
detection belongs to the photo that holds its centre.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import tyro
from tqdm import tqdm

from benchmarks.measurement import machine
from benchmarks.measurement.figures import spread
from client import Box, Detection, Detector, Result
from client.tiles import detect_tiled, windows
from serving.release.evaluation import (
    SCORE_THRESHOLD,
    EvaluationSet,
    read_evaluation,
    score_detections,
)
from serving.server.server import EmbeddedServer, ServerSettings

SHOWN = 0.5  # score from which the ensemble answers by default
Detect = Callable[[bytes], Result]


@dataclass(frozen=True)
class Settings:
    """Measure tiled detection."""

    evaluation: Annotated[Path, tyro.conf.Positional]
    """COCO file with boxes, beside its photos."""
    repository: Path = Path("model_repository")
    """What the embedded server serves."""
    output: Path = Path("benchmarks/results/tiles.json")
    """Takes the figures."""
    columns: int = 6
    """Photos side by side in a large picture."""
    rows: int = 6
    """Photos one below the other in it."""
    tiles: tuple[int, ...] = (480, 640, 960)
    """Sides of tiles, pixels."""
    overlaps: tuple[float, ...] = (0.2, 0.3, 0.4)
    """Of a tile."""


@dataclass(frozen=True)
class Mosaic:
    """Some photos in one: its JPEG, and the places of the photos by their numbers."""

    file: bytes
    size: tuple[int, int]  # width, height of one photo
    places: dict[tuple[int, int], int]  # column, row -> the photo's number


def main(settings: Settings) -> None:
    """Measure each way, and write what was found."""
    annotated = read_evaluation(settings.evaluation)
    mosaics = list(compose(dict(annotated.photos), settings.columns, settings.rows))
    used = {number for mosaic in mosaics for number in mosaic.places.values()}
    annotated = replace(
        annotated,
        photos={number: annotated.photos[number] for number in used},
        truth=tuple(row for row in annotated.truth if row["image_id"] in used),
    )
    figures = []
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer(ServerSettings(settings.repository)))
        detector = stack.enter_context(Detector(server.grpc_url))
        photos = {
            number: detector.detect(path, score_threshold=SCORE_THRESHOLD)
            for number, path in tqdm(annotated.photos.items(), desc="photos")
        }
        figures.append({"way": "photos one by one", **quality(annotated, photos)})
        for way, requests, detect in ways(settings, detector, mosaics[0]):
            found: dict[int, Result] = {}
            seconds = []
            for mosaic in tqdm(mosaics, desc=way):
                began = time.perf_counter()
                result = detect(mosaic.file)
                seconds.append(time.perf_counter() - began)
                found |= parts(result, mosaic)
            figures.append(
                {"way": way, "requests": requests, "seconds": spread(seconds)}
                | quality(annotated, found)
            )
            print(json.dumps(figures[-1]))
    large = [settings.columns * mosaics[0].size[0], settings.rows * mosaics[0].size[1]]
    about = {"machine": machine.describe_machine(), "size": large, "mosaics": len(mosaics)}
    about["objects"] = len(annotated.truth)
    settings.output.write_text(json.dumps(about | {"figures": figures}, indent=2) + "\n")


def compose(photos: dict[int, Path], columns: int, rows: int) -> Iterator[Mosaic]:
    """Yield mosaics of as many photos as fill them; those left over are left out."""
    numbers = list(photos)
    count = columns * rows
    for start in range(0, len(numbers) - count + 1, count):
        chosen = numbers[start : start + count]
        pictures = [cv2.imread(str(photos[number])) for number in chosen]
        lines = [cv2.hconcat(pictures[row * columns : (row + 1) * columns]) for row in range(rows)]
        _, file = cv2.imencode(".jpg", cv2.vconcat(lines), [cv2.IMWRITE_JPEG_QUALITY, 95])
        places = {(at % columns, at // columns): number for at, number in enumerate(chosen)}
        height, width = pictures[0].shape[:2]
        yield Mosaic(file.tobytes(), (width, height), places)


def ways(
    settings: Settings, detector: Detector, mosaic: Mosaic
) -> Iterator[tuple[str, int, Detect]]:
    """Yield each way's name, how many requests it makes of a picture, and what makes them."""
    width, height = settings.columns * mosaic.size[0], settings.rows * mosaic.size[1]
    yield "whole", 1, partial(detector.detect, score_threshold=SCORE_THRESHOLD)
    for tile in settings.tiles:
        for overlap in settings.overlaps:
            detect = partial(
                detect_tiled,
                detector,
                tile=tile,
                overlap=overlap,
                score_threshold=SCORE_THRESHOLD,
            )
            requests = len(windows(width, height, tile, overlap))
            yield f"tiles of {tile}, overlap {overlap:g}", requests, detect


def parts(result: Result, mosaic: Mosaic) -> dict[int, Result]:
    """Return the result of each photo in a mosaic, in its own pixels."""
    width, height = mosaic.size
    found: dict[int, list[Detection]] = {number: [] for number in mosaic.places.values()}
    for detection in result.detections:
        box = detection.box
        column = min(int((box.x1 + box.x2) / 2 // width), max(mosaic.places)[0])
        row = min(int((box.y1 + box.y2) / 2 // height), max(mosaic.places)[1])
        x, y = column * width, row * height
        moved = Box(box.x1 - x, box.y1 - y, box.x2 - x, box.y2 - y)
        found[mosaic.places[column, row]].append(replace(detection, box=moved))
    return {number: Result(tuple(each), width, height) for number, each in found.items()}


def quality(annotated: EvaluationSet, found: dict[int, Result]) -> dict[str, Any]:
    """Return mAP at an IoU of 0.5, overall and by class, and how many detections are shown."""
    metrics = score_detections(annotated, found)
    shown = [d for result in found.values() for d in result.detections if d.score >= SHOWN]
    return {
        "map50": metrics.map50,
        "per_class": {label: pair[0] for label, pair in metrics.per_class.items()},
        "shown": len(shown),
    }


if __name__ == "__main__":
    main(tyro.cli(Settings))
