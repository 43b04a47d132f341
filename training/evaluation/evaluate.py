"""`training evaluate`: mAP with pycocotools, and a report to open in a browser.

mAP is COCO's: the area under the precision-recall curve at 101 recall points, at most 100
detections an image. mAP@0.5 is at an IoU of 0.5, mAP@[.5:.95] the mean over ten IoUs.
Objects marked `difficult` are COCO's crowd: finding them is neither right nor wrong.
"""

import contextlib
import io
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tensorflow as tf
import tyro
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from training import input_pipeline
from training.data import records
from training.data.trained_on import TrainedOn
from training.errors import TrainingError
from training.evaluation import outcomes
from training.network import onnx_network
from training.network.model import Detector
from training.network.onnx_network import OnnxNetwork
from training.run_folder import load_network, trained_on

MAX_DETECTIONS = 100  # an image, COCO's
SCORE_THRESHOLD = 0.01  # SSD, section 2.2 "Inference"
IOU_THRESHOLD = 0.45  # of NMS, SSD, section 2.2 "Inference"
TRAINED_ON = " of photos trained on"
_BATCH_SIZE = 16
_FOLDER = tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")
_FILE = tyro.conf.arg(metavar="FILE", help_behavior_hint="")

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
    """Mean average precision, 0 to 1; per class (mAP@0.5, mAP@[.5:.95]).

    split: which one was measured on.
    trained_on: how many of its images the network was trained on; None where that is not known.
    matches: for each image id int [2, N], the row of the truth that each detection found at an
        IoU of 0.5 and of 0.75, or `outcomes.NOTHING`.
    """

    map50: float
    map: float
    per_class: dict[str, tuple[float, float]]
    images: int
    split: str = ""
    trained_on: int | None = None
    matches: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @property
    def names(self) -> tuple[str, str]:
        """What to call the two figures: those of photos that it was trained on are no mAP."""
        suffix = TRAINED_ON if self.trained_on else ""
        return f"mAP@0.5{suffix}", f"mAP@[.5:.95]{suffix}"

    @property
    def held_out(self) -> str:
        """Whether the images were, in words."""
        if self.trained_on is None:
            return "not known whether it was trained on them"
        if self.trained_on:
            return f"{self.trained_on} of them trained on: this tells nothing of other photos"
        return "none of them trained on"

    def to_dict(self) -> dict[str, object]:
        per_class = {
            label: dict(zip(self.names, values, strict=True))
            for label, values in self.per_class.items()
        }
        return {
            **dict(zip(self.names, (self.map50, self.map), strict=True)),
            "per_class": per_class,
            "split": self.split,
            "images": self.images,
            "trained_on": self.trained_on,
        }


@dataclass(frozen=True)
class EvaluateSettings:
    """Score a trained run, an exported network, or a server's detections on annotated photos."""

    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote."""
    run: Annotated[Path | None, _FOLDER] = None
    """Folder of a training run, to be scored with its newest checkpoint."""
    onnx: Annotated[Path | None, _FILE] = None
    """Instead of a run: the model.onnx of an artifact, of whatever precision."""
    detections: Annotated[Path | None, _FILE] = None
    """Instead of a run: what `client detect --json --score-threshold 0.01` printed."""
    split: str = "val"
    """Which split to score on."""
    report: Annotated[Path | None, _FOLDER] = None
    """Folder for a report: curves, confusion matrix, the twenty worst images. Replaces an older."""
    iou_threshold: float = IOU_THRESHOLD
    """Without --detections: of two boxes of a class that overlap more, NMS keeps the better."""
    json: bool = False
    """Print one JSON document instead of a table."""


def run(settings: EvaluateSettings) -> int:
    started = time.perf_counter()
    if not 0 <= settings.iou_threshold <= 1:
        raise TrainingError(f"--iou-threshold must be 0 to 1, got {settings.iou_threshold}")
    if settings.report:
        _check_report(settings.report)
    manifest = records.load_manifest(settings.records, settings.split)
    truth = read_truth(manifest)
    if not is_measurable(truth):
        raise TrainingError(
            f"{settings.records}: nothing to measure: none of the {len(truth)} images of "
            f"{settings.split} has an object to find; annotate some, or hold out others with "
            "`python -m training records --resplit`"
        )
    detected = _detections(settings, manifest)
    metrics = score(truth, detected, manifest.labels)
    metrics = labelled(metrics, manifest, _trained_on(settings))
    print(json.dumps(metrics.to_dict(), indent=2) if settings.json else table(metrics))
    notes = sys.stderr if settings.json else sys.stdout
    print(f"{metrics.images} images in {time.perf_counter() - started:.1f} s", file=notes)
    if settings.report:
        print(f"report: {_write_report(settings, manifest, truth, detected, metrics)}", file=notes)
    return 0


def _check_report(folder: Path) -> None:
    """Before the work, so that nobody waits for a refusal."""
    from training.evaluation import report

    report.check_replaceable(folder)


def _write_report(
    settings: EvaluateSettings,
    manifest: records.Manifest,
    truth: list[Truth],
    detected: list[Detected],
    metrics: Metrics,
) -> Path:
    from training.evaluation import report

    assert settings.report
    tensorboard = settings.run / "tensorboard" if settings.run else None
    return report.write(settings.report, manifest, truth, detected, metrics, tensorboard)


def _detections(settings: EvaluateSettings, manifest: records.Manifest) -> list[Detected]:
    given = [settings.run, settings.onnx, settings.detections]
    if sum(source is not None for source in given) != 1:
        raise TrainingError("give either --run, --onnx or --detections, one of the three")
    if settings.detections:
        return read_detections(settings.detections, manifest.labels, read_truth(manifest))
    if settings.onnx:
        exported = onnx_network.load(settings.onnx)
        check_labels(settings.onnx, exported.labels, manifest)
        step = onnx_step(exported, settings.iou_threshold)
        return detect(step, manifest, exported.input_size, progress=True)
    assert settings.run
    network, preset, labels = load_network(settings.run)
    check_labels(settings.run, labels, manifest)
    step = detection_step(Detector(network, preset), settings.iou_threshold)
    return detect(step, manifest, preset.input_size, progress=True)


def _trained_on(settings: EvaluateSettings) -> TrainedOn:
    """What a run or a network says of itself; detections say nothing."""
    if settings.run:
        return trained_on(settings.run)
    return onnx_network.load(settings.onnx).trained_on if settings.onnx else TrainedOn()


def check_labels(trained: Path, labels: tuple[str, ...], manifest: records.Manifest) -> None:
    """Raise TrainingError where a network's labels are not those of the records."""
    if labels != manifest.labels:
        raise TrainingError(
            f"{trained} was trained for the labels {', '.join(labels)}, "
            f"but {manifest.directory} holds {', '.join(manifest.labels)}"
        )


def read_truth(manifest: records.Manifest) -> list[Truth]:
    """What a split's images are annotated with, in the records' order; decodes no image."""

    def annotation(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {key: value for key, value in example.items() if key != "encoded"}

    examples = records.dataset(manifest).map(annotation).prefetch(tf.data.AUTOTUNE)
    return [_truth(example) for example in examples.as_numpy_iterator()]


def is_measurable(truth: list[Truth]) -> bool:
    """Whether there is an object to find: without one mAP is 0 whatever was learned."""
    return any(not image.difficult.all() for image in truth)


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
    detector: Callable[[tf.Tensor], dict[str, tf.Tensor]], iou_threshold: float = IOU_THRESHOLD
) -> DetectionStep:
    """Images uint8 [B, S, S, 3] -> boxes, scores, classes, counts after NMS, traced once."""
    images = tf.TensorSpec([None, None, None, 3], tf.uint8)  # a smaller last batch is no new trace
    return tf.function(
        lambda images: _suppress(detector(images), iou_threshold), input_signature=[images]
    )


def onnx_step(network: OnnxNetwork, iou_threshold: float = IOU_THRESHOLD) -> DetectionStep:
    """As `detection_step`, with ONNX Runtime."""
    return lambda images: _suppress(network(images.numpy()), iou_threshold)


def measure(network: OnnxNetwork, manifest: records.Manifest) -> Metrics:
    """mAP of an exported network on a split, with a progress bar."""
    detected = detect(onnx_step(network), manifest, network.input_size, progress=True)
    metrics = score(read_truth(manifest), detected, manifest.labels)
    return labelled(metrics, manifest, network.trained_on)


def labelled(metrics: Metrics, manifest: records.Manifest, trained_on: TrainedOn) -> Metrics:
    """The figures with what they were measured on, and whether it was trained on."""
    seen = trained_on.count(records.photos(manifest))
    return replace(metrics, split=manifest.split, trained_on=seen)


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


def _suppress(outputs: dict[str, Any], iou_threshold: float) -> tuple[tf.Tensor, ...]:
    return tf.image.combined_non_max_suppression(
        outputs["boxes"][:, :, None],
        outputs["scores"],
        max_output_size_per_class=MAX_DETECTIONS,
        max_total_size=MAX_DETECTIONS,
        iou_threshold=iou_threshold,
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


def read_detections(
    path: Path, labels: tuple[str, ...], truth: Sequence[Truth] = ()
) -> list[Detected]:
    """What `client detect --json` printed; an image's id is its file name without suffix.

    truth: images as they are stored; records may hold them smaller than the server saw them.
    """
    stored = {image.image_id: (image.width, image.height) for image in truth}
    try:
        return [_detected(photo, labels, stored) for photo in json.loads(path.read_text())]
    except FileNotFoundError:
        raise TrainingError(f"{path}: no such file") from None
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path}: expected the output of `python -m client detect --json`, got {error!r}"
        ) from None


def _detected(
    photo: dict[str, Any], labels: tuple[str, ...], stored: dict[str, tuple[int, int]]
) -> Detected:
    if "error" in photo:
        raise TrainingError(f"{photo['file']} has no detections: {photo['error']}")
    rows = photo["detections"]
    boxes = [[row["box"][side] for side in ("x1", "y1", "x2", "y2")] for row in rows]
    image_id, seen = Path(photo["file"]).stem, (photo["width"], photo["height"])
    scale = np.divide(stored.get(image_id, seen), seen).astype(np.float32)
    return Detected(
        image_id,
        np.array(boxes, np.float32).reshape(-1, 4) * np.tile(scale, 2),
        np.array([row["score"] for row in rows], np.float32),
        np.array([labels.index(row["label"]) for row in rows], int),
    )


def score(truth: list[Truth], detected: list[Detected], labels: tuple[str, ...]) -> Metrics:
    """COCO's mean average precision. Classes without a truth in the split do not count.

    Raises:
        TrainingError: an image has no detections entry, or one that has no truth.
    """
    ids = {image.image_id for image in truth}
    names = {image.image_id for image in detected}
    if names != ids:
        odd = sorted(names ^ ids)
        raise TrainingError(
            f"detections and truth must name the same images, but {len(odd)} stand in only one "
            f"of them, first {odd[0]!r}: detect on exactly the images of the split"
        )
    evaluator = _match(truth, detected, labels)
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
        matches=_matches(evaluator, truth, detected),
    )


def _match(truth: list[Truth], detected: list[Detected], labels: tuple[str, ...]) -> COCOeval:
    """pycocotools' evaluator after its work, over objects of any size only."""
    ids = {image.image_id: number for number, image in enumerate(truth)}
    images = [{"id": ids[t.image_id], "width": t.width, "height": t.height} for t in truth]
    categories = [{"id": k, "name": name} for k, name in enumerate(labels)]
    rows = [
        [
            _row(image, row, ids) | {"iscrowd": int(image.difficult[row])}
            for image, row in _rows(truth)
        ],
        [
            _row(image, row, ids) | {"score": float(image.scores[row])}
            for image, row in _rows(detected)
        ],
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        # Not loadRes: it cannot read an empty list, and gives each box a polygon.
        evaluator = COCOeval(*(_coco(images, categories, part) for part in rows), iouType="bbox")
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [MAX_DETECTIONS]
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


def _rows(images: Iterable[Any]) -> Iterator[tuple[Any, int]]:
    return ((image, row) for image in images for row in range(len(image.classes)))


def _row(image: Truth | Detected, row: int, ids: dict[str, int]) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(side) for side in image.boxes_xyxy[row])
    return {
        "image_id": ids[image.image_id],
        "category_id": int(image.classes[row]),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
    }


def _coco(images: list[Any], categories: list[Any], rows: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    annotations = [row | {"id": number} for number, row in enumerate(rows, start=1)]
    coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
    coco.createIndex()
    return coco


def _matches(
    evaluator: COCOeval, truth: list[Truth], detected: list[Detected]
) -> dict[str, np.ndarray]:
    """`Metrics.matches`. pycocotools speaks of ids, which count up over all images from 1."""
    order = {image.image_id: place for place, image in enumerate(detected)}
    first_object, first_detection = _first_ids(truth), _first_ids(detected)
    at = [int(np.argmin(np.abs(evaluator.params.iouThrs - iou))) for iou in outcomes.IOUS]
    found = [np.full((len(at), len(image.classes)), outcomes.NOTHING) for image in detected]
    for result in filter(None, evaluator.evalImgs):
        image = result["image_id"]
        place = order[truth[image].image_id]
        rows = np.array(result["dtIds"], int) - first_detection[place]
        ids = result["dtMatches"][at].astype(int)  # 0: nothing found
        found[place][:, rows] = np.where(ids > 0, ids - first_object[image], outcomes.NOTHING)
    return {image.image_id: found[place] for place, image in enumerate(detected)}


def _first_ids(images: Iterable[Any]) -> list[int]:
    return list(itertools.accumulate((len(image.classes) for image in images), initial=1))


def table(metrics: Metrics) -> str:
    width = max(len(name) for name in [*metrics.per_class, "all classes"])
    rows = [("all classes", metrics.map50, metrics.map)]
    rows += [(name, a, b) for name, (a, b) in metrics.per_class.items()]
    map50, map_ = metrics.names
    lines = [f"{metrics.images} images, {metrics.held_out}", f"{'':{width}}  {map50}  {map_}"]
    return "\n".join(
        lines + [f"{name:{width}}  {a:{len(map50)}.3f}  {b:{len(map_)}.3f}" for name, a, b in rows]
    )
