"""`training fit`: default boxes fitted to the data, by k-means on IoU.

Objects' widths and heights are clustered with 1 - IoU of centred boxes as the distance (YOLO9000,
arXiv 1612.08242, section 2 "Dimension Clusters"). Each cluster goes to the feature map whose cells
its size fits, as the paper's scales do (SSD, section 2.2), so small boxes lie on fine maps.

Out: a JSON file that `training train --default-boxes` takes; run folder and artifact carry it on.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from training import boxes, outcomes, records, run_folder
from training.default_boxes import box_shapes, default_boxes
from training.errors import TrainingError
from training.presets import PRESETS, BoxShapes, Preset, PresetName

CELLS_PER_BOX = 3.2  # a default box's side in cells of its feature map: the paper's are 2.7 to 4
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
    count: int = 6
    """How many shapes; each becomes a default box in every cell of one feature map."""
    split: str = "train"
    """Split to fit to."""
    seed: int = 0
    """Fixes where the clusters start."""


def run(settings: FitSettings) -> int:
    if settings.count < 1:
        raise TrainingError(f"--count must be 1 or more, got {settings.count}")
    manifest = records.load_manifest(settings.records, settings.split)
    objects_xyxy = _objects(manifest)
    before = PRESETS[settings.preset]
    shapes = fit(objects_xyxy[:, 2:] - objects_xyxy[:, :2], before, settings.count, settings.seed)
    after = replace(before, box_shapes=shapes)
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(
        settings.output,
        {"preset": before.name, "fingerprint": manifest.fingerprint, "box_shapes": shapes},
    )
    print(f"{len(objects_xyxy)} objects of {settings.records}, split {settings.split}")
    print(report(objects_xyxy, {"the preset's": before, "fitted": after}))
    for side, pairs in zip(after.feature_maps, shapes, strict=True):
        pixels = "  ".join(
            f"{w * after.input_size:.0f}x{h * after.input_size:.0f}" for w, h in pairs
        )
        print(f"  {side:2}x{side:<2}  {pixels or '-'}")
    print(f"{settings.output}: for `training train --default-boxes`")
    return 0


def _objects(manifest: records.Manifest) -> np.ndarray:
    """All boxes of a split, xyxy, 0..1: float32 [N, 4]."""
    examples = records.dataset(manifest).as_numpy_iterator()
    objects_xyxy = np.concatenate([example["boxes_xyxy"] for example in examples])
    if not len(objects_xyxy):
        raise TrainingError(f"{manifest.directory}: no object in the split {manifest.split}")
    return objects_xyxy


def fit(sizes: np.ndarray, preset: Preset, count: int, seed: int) -> BoxShapes:
    """Shapes for each feature map of a preset, from objects' widths and heights [N, 2], 0..1."""
    clusters = k_means(sizes, count, np.random.default_rng(seed))
    sides = np.array(preset.feature_maps)
    cells = np.sqrt(clusters.prod(axis=1))[:, None] * sides  # [count, maps]
    chosen = np.abs(np.log(cells / CELLS_PER_BOX)).argmin(axis=1)
    return tuple(
        tuple((round(float(w), 4), round(float(h), 4)) for w, h in clusters[chosen == index])
        for index in range(len(sides))
    )


def k_means(sizes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Medians of the clusters of widths and heights [N, 2], smallest area first: [count, 2].

    Fewer where the objects have fewer different sizes.
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


def report(objects_xyxy: np.ndarray, presets: dict[str, Preset]) -> str:
    """A table: how well each preset's default boxes cover the objects [N, 4], xyxy, 0..1."""
    lines = [f"{'':14}{'boxes':>6}  {'mean IoU of shape':>17}  {'in place':>8}"]
    for name, preset in presets.items():
        shape, place = coverage(objects_xyxy, preset)
        lines.append(f"{name:14}{len(default_boxes(preset)):6}  {shape:17.3f}  {place:8.3f}")
    return "\n".join(lines)


def coverage(objects_xyxy: np.ndarray, preset: Preset) -> tuple[float, float]:
    """Mean best IoU of objects [N, 4] with the default boxes: of shape alone, and in their place.

    The second is what matching sees: centres lie on the grid of each feature map.
    """
    sizes = objects_xyxy[:, 2:] - objects_xyxy[:, :2]
    shapes = np.array([pair for pairs in box_shapes(preset) for pair in pairs])
    grid_xyxy = boxes.to_xyxy(default_boxes(preset)).numpy()
    # Object by object: all at once would be gigabytes for a large data set.
    best = [outcomes.iou(box[None], grid_xyxy).max() for box in objects_xyxy]
    return float(shape_iou(sizes, shapes).max(axis=1).mean()), float(np.mean(best))


def load(path: Path, preset: Preset) -> Preset:
    """The preset with the default boxes of a file that `training fit` wrote.

    Raises:
        TrainingError: not such a file, or one for another preset.
    """
    document = run_folder.read_json(path, "the file that `training fit --output` wrote")
    try:
        shapes = _shapes(document)
        name = document["preset"]
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path}: no default boxes in it ({error!r}); write it with `training fit`"
        ) from None
    if name != preset.name or len(shapes) != len(preset.feature_maps):
        raise TrainingError(
            f"{path}: for the preset {name} with {len(shapes)} feature maps, not for {preset.name}"
        )
    return replace(preset, box_shapes=shapes)


def _shapes(document: dict[str, Any]) -> BoxShapes:
    shapes = tuple(
        tuple((float(w), float(h)) for w, h in pairs) for pairs in document["box_shapes"]
    )
    sides = [side for pairs in shapes for pair in pairs for side in pair]
    if not sides or not all(math.isfinite(side) and side > 0 for side in sides):
        raise ValueError("sides must be more than 0")
    return shapes
