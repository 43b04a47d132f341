"""`training fit`: default boxes fitted to the data, chosen by how they cover it in their place.

Objects' widths and heights are clustered with 1 - IoU of centred boxes as the distance (YOLO9000,
arXiv 1612.08242, section 2 "Dimension Clusters"), into 1 shape, 2 and so on. Of all these, on all
feature maps whose cells their size fits, one after the other is taken: always the one that adds
most to the objects' mean best IoU as matching will see it, with centres on the map's grid (greedy
maximisation, within 1 - 1/e of the best choice: Nemhauser, Wolsey and Fisher, 1978). A shape alone
says little: on a coarse map its boxes lie far apart.

Out: a JSON file that `training train --default-boxes` takes; run folder and artifact carry it on.
Boxes that cover less than the preset's are never written.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tensorflow as tf
import tyro

from training.data import records
from training.errors import TrainingError
from training.fitted_boxes import write_fitted
from training.input import augmentation
from training.network.default_boxes import box_shapes, default_boxes
from training.network.presets import PRESETS, Preset, PresetName, Resize, choose_input
from training.settings import of_preset

# Sides of a default box in cells of its feature map; the paper's are 0.9 to 6.
LEAST_CELLS, MOST_CELLS = 1.5, 6.0
# What a shape has to add to the mean IoU by itself, and for each of its boxes.
SHAPE_PRICE, BOX_PRICE = 0.005, 2e-6
MOST_CLUSTERS = 12
SAMPLE = 5000  # objects that are clustered; coverage is told of all
SHOWN_CLASSES = 20
_ROUNDS = 300  # k-means has long settled by then


@dataclass(frozen=True)
class FitSettings:
    """Fit default boxes to annotated objects; say how well they cover them before and after."""

    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote."""
    output: Path
    """JSON file to write, for `training train --default-boxes`."""
    preset: PresetName = "ssd_compact"
    """Whose feature maps the boxes are for."""
    input_size: Annotated[int | None, of_preset("INT")] = None
    """That of `training train`: a larger input has larger feature maps."""
    resize: Annotated[Resize | None, of_preset("stretch|letterbox")] = None
    """That of `training train`: a letterboxed photo is a part of the input, in its own shape."""
    count: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: as many as pay)")
    ] = None
    """How many shapes; each becomes a default box in every cell of one feature map."""
    split: str = "train"
    """Split to fit to."""
    seed: int = 0
    """Fixes where the clusters start."""


@dataclass(frozen=True)
class Objects:
    """All boxes of a split, xyxy, 0..1 of the input, float32 [N, 4]; their classes, int32 [N]."""

    boxes_xyxy: np.ndarray
    classes: np.ndarray


def fit_default_boxes(settings: FitSettings) -> int:
    if settings.count is not None and settings.count < 1:
        raise TrainingError(f"--count must be 1 or more, got {settings.count}")
    manifest = records.load_manifest(settings.records, settings.split)
    before = choose_input(PRESETS[settings.preset], settings.input_size, settings.resize)
    objects = find_objects(manifest, before.resize)
    after = fit_preset(objects.boxes_xyxy, before, settings.count, settings.seed)
    old, new = (coverage(objects.boxes_xyxy, preset) for preset in (before, after))
    print(f"{len(old)} objects of {settings.records}, split {settings.split}")
    print(
        _coverage_table(
            {"the preset's": (before, old), "fitted": (after, new)}, before.matching_iou
        )
    )
    if new.mean() < old.mean():
        raise TrainingError(_too_few(settings))
    if len(manifest.labels) <= SHOWN_CLASSES:
        print(_class_table(manifest.labels, objects.classes, old, new))
    if after == before:
        print("no other boxes cover these objects better: the preset's are written")
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    write_fitted(settings.output, after, manifest.fingerprint)
    for side, pairs in zip(after.feature_maps, box_shapes(after), strict=True):
        pixels = "  ".join(
            f"{w * after.input_size:.0f}x{h * after.input_size:.0f}" for w, h in pairs
        )
        print(f"  {side:2}x{side:<2}  {pixels or '-'}")
    print(f"{settings.output}: for `training train --default-boxes`")
    return 0


def _too_few(settings: FitSettings) -> str:
    return (
        f"--count {settings.count}: that many shapes cover the objects worse than the preset's "
        f"default boxes, so {settings.output} was not written: take more, or leave --count out"
    )


def find_objects(manifest: records.Manifest, resize: Resize) -> Objects:
    """What a split is annotated with, where the network sees it.

    Raises:
        TrainingError: there is no object.
    """
    examples = records.dataset(manifest).as_numpy_iterator()
    parts = [(_boxes_on_input(example, resize), example["classes"]) for example in examples]
    boxes_xyxy, classes = map(np.concatenate, zip(*parts, strict=True))
    if not len(classes):
        raise TrainingError(f"{manifest.directory}: no object in the split {manifest.split}")
    return Objects(boxes_xyxy, classes)


def _boxes_on_input(example: dict[str, Any], resize: Resize) -> np.ndarray:
    """An example's boxes, xyxy, 0..1 of what the network sees of the whole photo: [N, 4]."""
    if resize == "stretch":
        return example["boxes_xyxy"]
    extent = np.array([example["width"], example["height"]], np.float32)
    canvas = augmentation.letterbox_window(tf.constant([0.0, 0.0, 1.0, 1.0]), extent)
    return augmentation.move_boxes(example["boxes_xyxy"], canvas)[0].numpy()


def fit_preset(objects_xyxy: np.ndarray, preset: Preset, count: int | None, seed: int) -> Preset:
    """The preset with default boxes for objects [N, 4], xyxy, 0..1, of which N is at least 1.

    With a count that many shapes, fewer where no further one covers anything better; without one
    as many as pay, and those that the preset's coverage takes. If that is out of reach, the preset
    as it is.
    """
    rng = np.random.default_rng(seed)
    sample_xyxy = rng.permutation(objects_xyxy)[:SAMPLE]
    chosen = _choose_shapes(sample_xyxy, _candidate_shapes(sample_xyxy, preset, rng), preset, count)
    shapes = tuple(
        tuple(shape for index, shape in chosen if index == place)
        for place in range(len(preset.feature_maps))
    )
    fitted = replace(preset, box_shapes=shapes)
    if count is None:
        worse = coverage(objects_xyxy, fitted).mean() < coverage(objects_xyxy, preset).mean()
        return preset if worse else fitted
    return fitted


Candidate = tuple[int, tuple[float, float]]  # feature map's place, width and height of a box


def _candidate_shapes(
    objects_xyxy: np.ndarray, preset: Preset, rng: np.random.Generator
) -> list[Candidate]:
    """Shapes of clusters of objects [N, 4], each with every feature map that its size fits."""
    sizes = objects_xyxy[:, 2:] - objects_xyxy[:, :2]
    clusters = [cluster_sizes(sizes, count, rng) for count in range(1, MOST_CLUSTERS + 1)]
    shapes = np.unique(np.concatenate(clusters).round(4), axis=0)
    return [
        (place, (float(width), float(height)))
        for width, height in shapes[(shapes > 0).all(axis=1)]
        for place in fitting_maps(math.sqrt(width * height), preset)
    ]


def fitting_maps(side: float, preset: Preset) -> list[int]:
    """Places of the feature maps of which a box of this side, 0..1, is LEAST to MOST_CELLS cells.

    For a smaller or larger one the finest or the coarsest map.
    """
    cells = [side * count for count in preset.feature_maps]
    fitting = [place for place, c in enumerate(cells) if LEAST_CELLS <= c <= MOST_CELLS]
    return fitting or [0 if cells[0] < LEAST_CELLS else len(cells) - 1]


def _choose_shapes(
    objects_xyxy: np.ndarray, offered: list[Candidate], preset: Preset, count: int | None
) -> list[Candidate]:
    """One candidate after the other, each the one that adds most to the objects' mean best IoU."""
    sides = np.array([preset.feature_maps[place] for place, _ in offered])
    shapes = np.array([shape for _, shape in offered])
    ious = np.stack(
        [_place_iou(objects_xyxy, *pair) for pair in zip(shapes, sides, strict=True)]
    )  # [candidates, N]
    prices = SHAPE_PRICE + BOX_PRICE * sides**2
    wanted = coverage(objects_xyxy, preset).mean()
    best, chosen = np.zeros(len(objects_xyxy), np.float32), list[Candidate]()
    while count is None or len(chosen) < count:
        gains = np.maximum(ious - best, 0).mean(axis=1)
        pick = int((gains - prices).argmax())
        if count is None and gains[pick] < prices[pick]:
            if best.mean() >= wanted:
                break
            pick = int(gains.argmax())
        if gains[pick] <= 0:
            break
        best = np.maximum(best, ious[pick])
        chosen.append(offered[pick])
    return chosen


def _place_iou(objects_xyxy: np.ndarray, shape: np.ndarray, side: int) -> np.ndarray:
    """IoU of each object [N, 4] with the nearest box of a shape on a map of side x side cells: [N].

    Of boxes of one shape the nearest overlaps most, along each axis by itself.
    """
    sizes = objects_xyxy[:, 2:] - objects_xyxy[:, :2]
    centres = (objects_xyxy[:, 2:] + objects_xyxy[:, :2]) / 2
    cells = np.clip(np.floor(centres * side), 0, side - 1)
    away = np.abs(centres - (cells + 0.5) / side)
    overlap = np.minimum(np.minimum(sizes, shape), (sizes + shape) / 2 - away)
    intersection = np.maximum(overlap, 0).prod(axis=1)
    return intersection / (sizes.prod(axis=1) + shape.prod() - intersection)


def cluster_sizes(sizes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Medians of the clusters of widths and heights [N, 2], smallest area first: [count, 2].

    Fewer where the objects have fewer different sizes. IoU is of shapes alone.
    """
    different = np.unique(sizes, axis=0)
    centres = rng.permutation(different)[:count]
    for _ in range(_ROUNDS):
        nearest = shape_iou(sizes, centres).argmax(axis=1)
        groups = [sizes[nearest == index] for index in range(len(centres))]
        moved = np.array([np.median(group, axis=0) for group in groups if len(group)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres[np.argsort(centres.prod(axis=1))]


def shape_iou(sizes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of boxes with the same centre, from widths and heights [N, 2] and [M, 2]: [N, M]."""
    intersection = np.minimum(sizes[:, None], others[None]).prod(axis=-1)
    union = sizes.prod(axis=1)[:, None] + others.prod(axis=1)[None] - intersection
    return intersection / union


def _coverage_table(rows: dict[str, tuple[Preset, np.ndarray]], threshold: float) -> str:
    """A table: of each preset's default boxes their number, and the objects' best IoUs [N]."""
    lines = [f"{'':14}{'boxes':>6}  mean best IoU in place  of {threshold:g} or more"]
    for name, (preset, best) in rows.items():
        share = (best >= threshold).mean()
        lines.append(f"{name:14}{len(default_boxes(preset)):6}  {best.mean():22.3f}  {share:14.1%}")
    return "\n".join(lines)


def _class_table(
    labels: tuple[str, ...], classes: np.ndarray, old: np.ndarray, new: np.ndarray
) -> str:
    """A line for each class that has objects: how many, and their mean best IoU [N] by then."""
    width = max(map(len, labels))
    return "\n".join(
        f"  {label:{width}}  {of.sum():6} objects  {old[of].mean():.3f} -> {new[of].mean():.3f}"
        for label, of in ((label, classes == k) for k, label in enumerate(labels))
        if of.any()
    )


def coverage(objects_xyxy: np.ndarray, preset: Preset) -> np.ndarray:
    """The best IoU of each object [N, 4] with the default boxes in their places: float32 [N].

    That is what matching sees: centres lie on the grid of each feature map.
    """
    best = np.zeros(len(objects_xyxy), np.float32)
    for side, shapes in zip(preset.feature_maps, box_shapes(preset), strict=True):
        for shape in shapes:
            best = np.maximum(best, _place_iou(objects_xyxy, np.array(shape), side))
    return best
