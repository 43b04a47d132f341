"""`training evaluate`: mAP with pycocotools, and pictures of detections beside the truth.

mAP is COCO's: the area under the precision-recall curve at 101 recall points, at most 100
detections an image. mAP@0.5 is at an IoU of 0.5, mAP@[.5:.95] the mean over ten IoUs.
Objects marked `difficult` are COCO's crowd: finding them is neither right nor wrong.
"""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tensorflow as tf
import tyro
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from training import input_pipeline, pictures, records
from training.errors import TrainingError
from training.model import Detector
from training.run_folder import load_network

MAX_DETECTIONS = 100  # an image, COCO's
SCORE_THRESHOLD = 0.01  # SSD, section 2.2 "Inference"
IOU_THRESHOLD = 0.45  # of NMS, SSD, section 2.2 "Inference"
_BATCH_SIZE = 16
_FOLDER = tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")

DetectionStep = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]


@dataclass(frozen=True)
class Truth:
    """One annotated image: boxes float32 [N, 4] xyxy in pixels, classes int [N], difficult [N]."""

    image_id: str
    width: int
    height: int
    boxes_xyxy: np.ndarray
    classes: np.ndarray
    difficult: np.ndarray


@dataclass(frozen=True)
class Detected:
    """The detections of one image: boxes float32 [N, 4] xyxy in pixels, best score first."""

    image_id: str
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class Metrics:
    """Mean average precision, 0 to 1; per class (mAP@0.5, mAP@[.5:.95])."""

    map50: float
    map: float
    per_class: dict[str, tuple[float, float]]
    images: int

    def to_dict(self) -> dict[str, object]:
        per_class = {k: {"mAP@0.5": a, "mAP@[.5:.95]": b} for k, (a, b) in self.per_class.items()}
        return {
            "mAP@0.5": self.map50,
            "mAP@[.5:.95]": self.map,
            "per_class": per_class,
            "images": self.images,
        }


@dataclass(frozen=True)
class EvaluateSettings:
    """Score a trained run, or detections that a client got from a server, on annotated photos."""

    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote."""
    run: Annotated[Path | None, _FOLDER] = None
    """Folder of a training run, to be scored with its newest checkpoint."""
    detections: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Instead of a run: what `client detect --json --score-threshold 0.01` printed."""
    split: str = "val"
    """Which split to score on."""
    pictures: Annotated[Path | None, _FOLDER] = None
    """Folder for pictures of detections beside the truth."""
    max_pictures: int = 20
    """How many pictures to draw at most."""
    json: bool = False
    """Print one JSON document instead of a table."""


def run(settings: EvaluateSettings) -> int:
    manifest = records.load_manifest(settings.records, settings.split)
    truth = read_truth(manifest)
    detected = _detections(settings, manifest)
    metrics = score(truth, detected, manifest.labels)
    print(json.dumps(metrics.to_dict(), indent=2) if settings.json else table(metrics))
    if settings.pictures:
        _draw(settings.pictures, manifest, truth, detected, settings.max_pictures)
    return 0


def _detections(settings: EvaluateSettings, manifest: records.Manifest) -> list[Detected]:
    if settings.detections and not settings.run:
        return read_detections(settings.detections, manifest.labels)
    if not settings.run or settings.detections:
        raise TrainingError("give either --run or --detections, one of the two")
    network, preset, labels = load_network(settings.run)
    if labels != manifest.labels:
        raise TrainingError(
            f"{settings.run} was trained for the labels {', '.join(labels)}, "
            f"but {settings.records} holds {', '.join(manifest.labels)}"
        )
    step = detection_step(Detector(network, preset))
    return detect(step, manifest, preset.input_size, progress=True)


def read_truth(manifest: records.Manifest) -> list[Truth]:
    return [_truth(example) for example in records.dataset(manifest).as_numpy_iterator()]


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


def detection_step(detector: Detector) -> DetectionStep:
    """Images uint8 [B, S, S, 3] -> boxes, scores, classes, counts after NMS, traced once."""
    return tf.function(lambda images: _suppress(detector(images)), reduce_retracing=True)


def detect(
    step: DetectionStep, manifest: records.Manifest, size: int, progress: bool = False
) -> list[Detected]:
    """Detections of every image of a split, with the NMS that the served model gets."""
    examples = records.dataset(manifest)
    images = examples.map(
        lambda example: (
            input_pipeline.prepare_evaluation_example(example, size)
            | {"extent": tf.stack([example["width"], example["height"]])}
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    batches = images.batch(_BATCH_SIZE).prefetch(tf.data.AUTOTUNE)
    detected: list[Detected] = []
    with tqdm(
        total=manifest.count, unit="image", disable=None if progress else True, leave=False
    ) as bar:
        for batch in batches:
            detected += _unpack(batch, step(batch["images"]))
            bar.update(len(batch["images"]))
    return detected


def _suppress(outputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
    return tf.image.combined_non_max_suppression(
        outputs["boxes"][:, :, None],
        outputs["scores"],
        max_output_size_per_class=MAX_DETECTIONS,
        max_total_size=MAX_DETECTIONS,
        iou_threshold=IOU_THRESHOLD,
        score_threshold=SCORE_THRESHOLD,
    )


def _unpack(batch: dict[str, tf.Tensor], outputs: tuple[tf.Tensor, ...]) -> Iterator[Detected]:
    extents = np.tile(batch["extent"].numpy(), 2)  # [B, 4]: width, height, width, height
    boxes, scores, classes, counts = (x.numpy() for x in outputs)
    for row, image_id in enumerate(batch["image_id"].numpy()):
        real = slice(counts[row])
        yield Detected(
            image_id.decode(),
            boxes[row, real] * extents[row],
            scores[row, real],
            classes[row, real].astype(int),
        )


def read_detections(path: Path, labels: tuple[str, ...]) -> list[Detected]:
    """What `client detect --json` printed; an image's id is its file name without suffix."""
    try:
        return [_detected(photo, labels) for photo in json.loads(path.read_text())]
    except FileNotFoundError:
        raise TrainingError(f"{path}: no such file") from None
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path}: expected the output of `python -m client detect --json`, got {error!r}"
        ) from None


def _detected(photo: dict[str, Any], labels: tuple[str, ...]) -> Detected:
    if "error" in photo:
        raise TrainingError(f"{photo['file']} has no detections: {photo['error']}")
    rows = photo["detections"]
    boxes = [[row["box"][side] for side in ("x1", "y1", "x2", "y2")] for row in rows]
    return Detected(
        Path(photo["file"]).stem,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([row["score"] for row in rows], np.float32),
        np.array([labels.index(row["label"]) for row in rows], int),
    )


def score(truth: list[Truth], detected: list[Detected], labels: tuple[str, ...]) -> Metrics:
    """COCO's mean average precision. Classes without a truth in the split do not count.

    Raises:
        TrainingError: an image has no detections entry, or one that has no truth.
    """
    ids = {image.image_id: number for number, image in enumerate(truth, start=1)}
    names = {image.image_id for image in detected}
    if names != set(ids):
        odd = sorted(names ^ set(ids))
        raise TrainingError(
            f"detections and truth must name the same images, but {len(odd)} stand in only one "
            f"of them, first {odd[0]!r}: detect on exactly the images of the split"
        )
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        evaluator = COCOeval(*_coco(truth, detected, ids, labels), iouType="bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, class]
    precision = np.where(precision < 0, np.nan, precision)  # -1: no truth of that class
    present = [k for k in range(len(labels)) if not np.isnan(precision[:, :, k]).all()]
    per_class = {
        labels[k]: (float(precision[0, :, k].mean()), float(precision[:, :, k].mean()))
        for k in present
    }
    return Metrics(
        float(np.mean([a for a, _ in per_class.values()])) if per_class else 0.0,
        float(np.mean([b for _, b in per_class.values()])) if per_class else 0.0,
        per_class,
        len(truth),
    )


def _coco(
    truth: list[Truth], detected: list[Detected], ids: dict[str, int], labels: tuple[str, ...]
) -> tuple[COCO, COCO]:
    images = [{"id": ids[t.image_id], "width": t.width, "height": t.height} for t in truth]
    categories = [{"id": k, "name": name} for k, name in enumerate(labels)]
    wanted = [
        {
            "id": number,
            "image_id": ids[image.image_id],
            "category_id": int(image.classes[row]),
            "bbox": _xywh(image.boxes_xyxy[row]),
            "area": float(np.prod(image.boxes_xyxy[row, 2:] - image.boxes_xyxy[row, :2])),
            "iscrowd": int(image.difficult[row]),
        }
        for number, (image, row) in enumerate(
            ((image, row) for image in truth for row in range(len(image.classes))), start=1
        )
    ]
    found = [
        {
            "image_id": ids[image.image_id],
            "category_id": int(image.classes[row]),
            "bbox": _xywh(image.boxes_xyxy[row]),
            "score": float(image.scores[row]),
        }
        for image in detected
        for row in range(len(image.classes))
    ]
    coco = COCO()
    coco.dataset = {"info": {}, "images": images, "categories": categories, "annotations": wanted}
    coco.createIndex()
    # loadRes reads the kind of result off the first row, so no result at all is an empty COCO.
    return coco, coco.loadRes(found) if found else _empty(coco)


def _empty(coco: COCO) -> COCO:
    empty = COCO()
    empty.dataset = coco.dataset | {"annotations": []}
    empty.createIndex()
    return empty


def _xywh(box_xyxy: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = (float(side) for side in box_xyxy)
    return [x1, y1, x2 - x1, y2 - y1]


def table(metrics: Metrics) -> str:
    width = max(len(name) for name in [*metrics.per_class, "all classes"])
    rows = [("all classes", metrics.map50, metrics.map)]
    rows += [(name, a, b) for name, (a, b) in metrics.per_class.items()]
    lines = [f"{metrics.images} images", f"{'':{width}}  mAP@0.5  mAP@[.5:.95]"]
    return "\n".join(lines + [f"{name:{width}}  {a:7.3f}  {b:12.3f}" for name, a, b in rows])


def _draw(
    output: Path,
    manifest: records.Manifest,
    truth: list[Truth],
    detected: list[Detected],
    most: int,
) -> None:
    output.mkdir(parents=True, exist_ok=True)
    found = {image.image_id: image for image in detected}
    examples = records.dataset(manifest).take(most).as_numpy_iterator()
    for example, image in zip(
        tqdm(examples, total=min(most, len(truth)), unit="picture", disable=None),
        truth,
        strict=False,
    ):
        picture = input_pipeline.decode_image(example["encoded"]).numpy()
        pictures.draw(
            output / f"{image.image_id}.png", picture, image, found[image.image_id], manifest.labels
        )
    print(f"pictures: {output}")
