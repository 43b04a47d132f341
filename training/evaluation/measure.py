"""What a network detects on a split of records, and how good that is.

The NMS is the one that the served model gets, at COCO's number of detections.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from training import run_folder
from training.data import records
from training.data.trained_on import TrainedOn
from training.evaluation import score
from training.evaluation.score import MAX_DETECTIONS, Detected, Metrics, Truth
from training.input import input_pipeline
from training.network.model import Detector
from training.network.onnx_network import OnnxNetwork
from training.network.presets import Preset, Resize
from training.served_code import load_step

SCORE_THRESHOLD = 0.01  # SSD, section 2.2 "Inference"
_BATCH_SIZE = 16
_postprocessing = load_step("postprocess", "postprocessing")

DetectionStep = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]


def read_truth(manifest: records.Manifest) -> list[Truth]:
    """What a split's images are annotated with, in the records' order; decodes no image."""

    def annotation(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {key: value for key, value in example.items() if key != "encoded"}

    examples = records.dataset(manifest).map(annotation).prefetch(tf.data.AUTOTUNE)
    return [_truth(example) for example in examples.as_numpy_iterator()]


def _truth(example: dict[str, Any]) -> Truth:
    width, height = int(example["width"]), int(example["height"])
    return Truth(
        example["image_id"].decode(),
        width,
        height,
        example["boxes_xyxy"] * np.array([width, height, width, height], np.float32),
        example["classes"],
        example["difficult"],
    )


def detection_step(
    detector: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    iou_threshold: float,
    voting_iou: float = 0.0,
) -> DetectionStep:
    """Images uint8 [B, S, S, 3] -> boxes, scores, classes, counts after NMS, traced once.

    iou_threshold, voting_iou: as a preset has them.
    """
    images = tf.TensorSpec([None, None, None, 3], tf.uint8)  # a smaller last batch is no new trace
    return tf.function(
        lambda images: _suppress(detector(images), iou_threshold, voting_iou),
        input_signature=[images],
    )


def onnx_step(network: OnnxNetwork, iou_threshold: float | None = None) -> DetectionStep:
    """As `detection_step`, with ONNX Runtime; no threshold: the network's own."""
    if iou_threshold is None:
        iou_threshold = network.iou_threshold
    return lambda images: _suppress(network(images.numpy()), iou_threshold, network.voting_iou)


def measure_network(network: OnnxNetwork, manifest: records.Manifest) -> Metrics:
    """mAP of an exported network on a split, with a progress bar.

    Returns:
        `map50` and `map` (of IoU 0.5, and of 0.5 to 0.95), from 0 to 1 or NaN where the split has
        no object, and `per_class`, both of each label.
    """
    detected = detect_objects(
        onnx_step(network), manifest, network.input_size, network.resize, progress=True
    )
    metrics = score.score_detections(read_truth(manifest), detected, manifest.labels)
    return label_metrics(metrics, manifest, network.trained_on)


def label_metrics(metrics: Metrics, manifest: records.Manifest, trained_on: TrainedOn) -> Metrics:
    """The figures with what they were measured on, and whether it was trained on."""
    seen = trained_on.count(records.photos(manifest))
    return replace(metrics, split=manifest.split, trained_on=seen)


def detect_with_run(
    run: Path, manifest: records.Manifest, iou_threshold: float | None = None
) -> tuple[list[Detected], Preset]:
    """What the network of a run detects on a split, with a progress bar, and its preset.

    Raises:
        TrainingError: the run has no checkpoint, or was trained for other labels.
    """
    network, preset, labels = run_folder.load_network(run)
    manifest.check_labels(run, labels)
    if iou_threshold is None:
        iou_threshold = preset.iou_threshold
    step = detection_step(Detector(network, preset), iou_threshold, preset.voting_iou)
    return detect_objects(step, manifest, preset.input_size, preset.resize, True), preset


def detect_objects(
    step: DetectionStep,
    manifest: records.Manifest,
    size: int,
    resize: Resize = "stretch",
    progress: bool = False,
) -> list[Detected]:
    """Detections of every image of a split, with the NMS that the served model gets.

    size, resize: how the network sees a photo, as in its preset.
    """
    examples = records.dataset(manifest)
    images = examples.map(
        lambda example: (
            input_pipeline.prepare_evaluation_example(example, size, resize)
            | {"image_size": tf.stack([example["height"], example["width"]])}
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    batches = images.batch(_BATCH_SIZE).prefetch(tf.data.AUTOTUNE)
    detected: list[Detected] = []
    with tqdm(
        total=manifest.count, unit="image", disable=None if progress else True, leave=False
    ) as bar:
        for batch in batches:
            detected += _unpack(batch, step(batch["images"]), resize)
            bar.update(len(batch["images"]))
    return detected


def _suppress(
    outputs: dict[str, Any], iou_threshold: float, voting_iou: float
) -> tuple[tf.Tensor, ...]:
    boxes, scores, classes, counts = tf.image.combined_non_max_suppression(
        outputs["boxes"][:, :, None],
        outputs["scores"],
        max_output_size_per_class=MAX_DETECTIONS,
        max_total_size=MAX_DETECTIONS,
        iou_threshold=iou_threshold,
        score_threshold=SCORE_THRESHOLD,
    )
    if voting_iou:
        given = [boxes, classes, outputs["boxes"], outputs["scores"]]
        vote = functools.partial(_vote, voting_iou=voting_iou)
        boxes = tf.numpy_function(vote, given, tf.float32)
    return boxes, scores, classes, counts


def _vote(
    kept: np.ndarray,
    classes: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    voting_iou: float,
) -> np.ndarray:
    """Box voting as it is served, for each image of a batch: [B, N, 4]."""
    images = zip(kept, classes.astype(int), boxes, scores, strict=True)
    return np.stack([_postprocessing.vote(*image, voting_iou) for image in images])


def _unpack(
    batch: dict[str, tf.Tensor], outputs: tuple[tf.Tensor, ...], resize: Resize
) -> Iterator[Detected]:
    sizes = batch["image_size"].numpy()
    boxes, scores, classes, counts = (x.numpy() for x in outputs)
    for row, image_id in enumerate(batch["image_id"].numpy()):
        real = slice(counts[row])
        yield Detected(
            image_id.decode(),
            _postprocessing.to_pixels(boxes[row, real], sizes[row], resize),
            scores[row, real],
            classes[row, real].astype(int),
        )
