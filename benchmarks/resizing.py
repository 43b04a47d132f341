r"""What training and serving make of the same large photos, and what a network makes of that.

    python -m training render data/large --count 24 --val 0.9 --width 3840 --height 2880
    python -m training records data/large --output data/large-records --max-side 0 \
        --labels RBC WBC Platelets
    python -m benchmarks.resizing data/large-records --network model_repository/ssd/1/model.onnx

Rendered at that size the photos hold detail in every pixel, which enlarged ones do not. Each is
made the network input in three ways: `served` as in front of the served network and in evaluation;
`training` as augmentation cuts a whole photo; `sampled` decoded in full and resized bilinearly, as
training and evaluation did until 2026-11. The last two are compared with the first.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tensorflow as tf
import tyro
from tqdm import tqdm

from benchmarks.measurement.figures import spread
from training.data import decoding, records
from training.evaluation import measure, score
from training.input import augmentation, input_pipeline
from training.network import onnx_network

SHOWN = 0.5  # score from which boxes are compared, as the ensemble answers by default
LOST = 10.0  # pixels of the network's input; a box whose nearest one is farther away counts as lost
WHOLE = tf.constant([0.0, 0.0, 1.0, 1.0])

Example = dict[str, tf.Tensor]


@dataclass(frozen=True)
class Settings:
    """Measure how far training's pictures are from the served ones."""

    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote."""
    network: Path
    """The ONNX file that mAP and boxes are measured with."""
    split: str = "val"
    """Split of the photos."""
    output: Path = Path("benchmarks/results/resizing.json")
    """Takes the figures."""


def sampled(example: Example, size: int) -> np.ndarray:
    """The whole photo decoded in full, and resized bilinearly."""
    image = input_pipeline.decode_image(example["encoded"])
    return _bytes(augmentation.cut(image, WHOLE, size))


def training(example: Example, size: int) -> np.ndarray:
    """As augmentation cuts it, were the whole photo its window."""
    return _bytes(input_pipeline.cut_window(example, WHOLE, size))


def _bytes(image: tf.Tensor) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def served(example: Example, size: int) -> np.ndarray:
    """As in front of the served network."""
    return decoding.served(example["encoded"].numpy(), size)


WAYS: dict[str, Callable[[Example, int], np.ndarray]] = {
    "served": served,
    "training": training,
    "sampled": sampled,
}


def main(settings: Settings) -> None:
    """Measure, and write what was found."""
    manifest = records.load_manifest(settings.records, settings.split)
    network = onnx_network.load_onnx(settings.network)
    manifest.check_labels(settings.network, network.labels)
    step, truth = measure.onnx_step(network), measure.read_truth(manifest)
    images: dict[str, list[np.ndarray]] = {way: [] for way in WAYS}
    for example in tqdm(records.dataset(manifest), total=manifest.count, unit="photo"):
        for way, prepare in WAYS.items():
            images[way].append(prepare(example, network.input_size))
    found = {
        way: [
            _detected(step, image, each.image_id) for image, each in zip(rows, truth, strict=True)
        ]
        for way, rows in images.items()
    }
    figures = {
        way: compare(images["served"], images[way], found["served"], found[way], network.input_size)
        | _map(truth, found[way], network.input_size, manifest.labels)
        for way in WAYS
    }
    settings.output.write_text(json.dumps({"photos": len(truth), "ways": figures}, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


def _detected(step: measure.DetectionStep, image: np.ndarray, image_id: str) -> score.Detected:
    """Boxes from 0 to 1."""
    boxes, scores, classes, counts = (x.numpy()[0] for x in step(tf.constant(image[None])))
    real = slice(int(counts))
    return score.Detected(image_id, boxes[real], scores[real], classes[real].astype(int))


def _map(
    truth: list[score.Truth], found: list[score.Detected], size: int, labels: tuple[str, ...]
) -> dict[str, float]:
    in_pixels = [
        score.Detected(
            one.image_id,
            one.boxes_xyxy * np.tile([each.width, each.height], 2),
            one.scores,
            one.classes,
        )
        for one, each in zip(found, truth, strict=True)
    ]
    metrics = score.score_detections(truth, in_pixels, labels)
    return {"mAP@0.5": round(metrics.map50, 4), "mAP@[.5:.95]": round(metrics.map, 4)}


def compare(
    images: list[np.ndarray],
    others: list[np.ndarray],
    found: list[score.Detected],
    other: list[score.Detected],
    size: int,
) -> dict[str, Any]:
    """How far the other way's pixels and boxes are from the first one's, in levels and pixels."""
    levels = [
        np.abs(a.astype(int) - b.astype(int)).mean() for a, b in zip(images, others, strict=True)
    ]
    away = [
        size * _nearest(box, b.boxes_xyxy[b.classes == label])
        for a, b in zip(found, other, strict=True)
        for box, label, score in zip(a.boxes_xyxy, a.classes, a.scores, strict=True)
        if score >= SHOWN
    ]
    near = [each for each in away if each <= LOST]
    return {
        "levels": round(float(np.mean(levels)), 3),
        "box_px": spread(near) | {"p95": float(np.percentile(near, 95))},
        "boxes": len(away),
        "lost": len(away) - len(near),
    }


def _nearest(box_xyxy: np.ndarray, boxes_xyxy: np.ndarray) -> float:
    """The largest difference of a side; infinite where there is none."""
    return float(np.abs(boxes_xyxy - box_xyxy).max(axis=1, initial=0).min(initial=np.inf))


if __name__ == "__main__":
    main(tyro.cli(Settings))
