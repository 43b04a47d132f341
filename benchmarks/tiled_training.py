"""What training in tiles gives where large pictures show small objects.

    python -m benchmarks.tiled_training --work runs/tiles \\
        --output benchmarks/results/tiled_training.json

Rendered blood smears of 640x480 are laid side by side, 36 to a picture of 3840x2880, so that cells
are as large as in photos. One network is trained on the pictures whole and one on their tiles, for
as many steps; both are asked as `client detect --local` asks. mAP is counted smear by smear, as in
`benchmarks.tiles`. What was done before in --work is not done again.
"""

import dataclasses
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tyro
from tqdm import tqdm

from benchmarks.measurement import machine
from benchmarks.measurement.figures import spread
from benchmarks.selection import NEVER
from benchmarks.tiles import Detect, Mosaic, compose, parts, quality
from client import LocalDetector, Result
from client.tiles import detect_tiled, windows
from serving.release.evaluation import SCORE_THRESHOLD, EvaluationSet, read_evaluation
from training import run_folder, train
from training.data import coco_export, records_writer
from training.data.formats.voc_writer import encode_voc
from training.data.tiles import OVERLAP
from training.export import export
from training.network.presets import SSD_LITE0
from training.render import smears
from training.settings import TrainSettings

WIDTH, HEIGHT = 640, 480  # of a smear, pixels
LABELS = ("RBC", "WBC", "Platelets")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Train on pictures whole and in tiles, and print and write what each finds."""

    work: Path
    """Folder for pictures, records, runs and artifacts."""
    output: Path
    """JSON file to write."""
    train_pictures: int = 6
    """Large pictures to train on."""
    val_pictures: int = 2
    """Large pictures to measure on."""
    columns: int = 6
    """Smears side by side in a picture."""
    rows: int = 6
    """Smears one below the other in it."""
    tile: int = 640
    """Side of a tile, pixels."""
    steps: int = 200
    """Of each training."""


def main(settings: Settings) -> None:
    """Draw, train, measure, print and write."""
    about: dict[str, Any] = {"machine": machine.describe_machine()}
    annotated, mosaics = _draw_pictures(settings)
    artifacts = {tile: _train_once(settings, tile) for tile in (0, settings.tile)}
    figures = []
    for name, trained, served in (
        ("whole", 0, 0),
        ("tiles at serving only", 0, settings.tile),
        ("tiles at both", settings.tile, settings.tile),
    ):
        with LocalDetector(artifacts[trained]) as detector:
            figures.append({"way": name} | _measure(detector, served, annotated, mosaics))
        print(json.dumps(figures[-1]), flush=True)
    size = [settings.columns * WIDTH, settings.rows * HEIGHT]
    about |= {"size": size, "train_pictures": settings.train_pictures, "pictures": len(mosaics)}
    about |= {"objects": len(annotated.truth), "preset": SSD_LITE0.name, "steps": settings.steps}
    about |= {"tile": settings.tile, "train_images": _count_images(settings)}
    run_folder.write_json(settings.output, about | {"figures": figures})


def _draw_pictures(settings: Settings) -> tuple[EvaluationSet, list[Mosaic]]:
    """The smears of val with their truth, and the pictures of them; train's lie beside them."""
    each, val = settings.columns * settings.rows, settings.val_pictures
    pictures = settings.train_pictures + val
    folder = settings.work / "smears"
    if not (folder / "ImageSets/Main/val.txt").exists():
        smears.render_smears(smears.RenderSettings(folder, each * pictures, val / pictures))
    sets = {split: _lay_out(settings, split) for split in ("train", "val")}
    return sets["val"]


def _lay_out(settings: Settings, split: str) -> tuple[EvaluationSet, list[Mosaic]]:
    """Write a split's pictures with all boxes that lie in them, as a Pascal VOC folder."""
    file = settings.work / f"{split}.json"
    if not file.exists():
        coco_export.write_coco(
            coco_export.CocoSettings((settings.work / "smears",), file, split=split)
        )
    annotated = read_evaluation(file)
    mosaics = list(compose(dict(annotated.photos), settings.columns, settings.rows))
    folder = settings.work / "pictures"
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    names = [f"{split}-{number}" for number in range(len(mosaics))]
    for name, mosaic in zip(names, mosaics, strict=True):
        (folder / f"JPEGImages/{name}.jpg").write_bytes(mosaic.file)
        boxes, labels = _move_boxes(annotated, mosaic)
        shape = (settings.rows * HEIGHT, settings.columns * WIDTH)
        xml = encode_voc(f"{name}.jpg", shape, boxes, labels)
        (folder / f"Annotations/{name}.xml").write_bytes(xml)
    (folder / f"ImageSets/Main/{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return annotated, mosaics


def _move_boxes(annotated: EvaluationSet, mosaic: Mosaic) -> tuple[np.ndarray, list[str]]:
    """All boxes of a picture, xyxy in its pixels [N, 4], and their labels."""
    corners = {number: place for place, number in mosaic.places.items()}
    rows = [row for row in annotated.truth if row["image_id"] in corners]
    boxes_xywh = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
    at = np.array([corners[row["image_id"]] for row in rows]).reshape(-1, 2) * mosaic.size
    low = boxes_xywh[:, :2] + at
    labels = [annotated.labels[row["category_id"]] for row in rows]
    return np.concatenate([low, low + boxes_xywh[:, 2:]], axis=1).round(), labels


def _train_once(settings: Settings, tile: int) -> Path:
    """The artifact of a network trained on the pictures whole, or on their tiles."""
    folder = settings.work / (f"tiles-{tile}" if tile else "whole")
    artifact = folder / "artifact"
    if not artifact.exists():
        print(f"\ntraining: {folder.name}", flush=True)
        keras.backend.clear_session()
        records_writer.write_records(
            records_writer.RecordsSettings(
                (settings.work / "pictures",), folder / "records", labels=LABELS, tile=tile
            )
        )
        preset = dataclasses.replace(SSD_LITE0, epochs=1, steps=settings.steps)
        recipe = TrainSettings(
            folder / "records", folder / "run", evaluate_every=0, checkpoint_every=NEVER
        )
        train.train_preset(recipe, preset)
        export.export_run(export.ExportSettings(folder / "run", artifact))
    return artifact


def _count_images(settings: Settings) -> dict[str, int]:
    """How many images each network was trained on."""
    expected = "what `training records` wrote"
    return {
        name: run_folder.read_json(settings.work / name / "records/train.json", expected)["count"]
        for name in ("whole", f"tiles-{settings.tile}")
    }


def _measure(
    detector: LocalDetector, tile: int, annotated: EvaluationSet, mosaics: list[Mosaic]
) -> dict[str, Any]:
    """mAP of one way to ask, how many requests it makes of a picture, and seconds."""
    detect: Detect = partial(detector.detect, score_threshold=SCORE_THRESHOLD)
    requests = 1
    if tile:
        detect = partial(
            detect_tiled,
            detector,
            tile=tile,
            overlap=OVERLAP,
            concurrency=2,
            score_threshold=SCORE_THRESHOLD,
        )
        (columns, rows), (width, height) = max(mosaics[0].places), mosaics[0].size
        requests = len(windows((columns + 1) * width, (rows + 1) * height, tile, OVERLAP))
    found: dict[int, Result] = {}
    seconds = []
    for mosaic in tqdm(mosaics, desc="measuring", unit="picture", disable=None):
        began = time.perf_counter()
        result = detect(mosaic.file)
        seconds.append(time.perf_counter() - began)
        found |= parts(result, mosaic)
    return {"requests": requests, "seconds": spread(seconds)} | quality(annotated, found)


if __name__ == "__main__":
    main(tyro.cli(Settings))
