"""Does a correction help? A model of half of the photos, before and after the others are corrected.

    python -m benchmarks.corrections data/bccd --pretrained runs/smears --work runs/corrections \\
        --output benchmarks/results/corrections.json

For each seed half of train, drawn at random, is what there is to begin with. The model of it finds
objects in the other half, and somebody puts every box right: the data set's own boxes stand in for
that person. Then training goes on from that model, as `learning run` does, with both halves; and,
beside it, with the first half alone for as many steps, which tells what corrections gave and what
more training. Measured on val. What was done before in --work is not done again.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from scipy.optimize import linear_sum_assignment

from benchmarks.seeds import spread_metrics
from benchmarks.selection import train_once
from training import run_folder
from training.data.annotations import Annotation, Dataset
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.evaluation.outcomes import iou
from training.export.reference import SCORE_THRESHOLD
from training.labelling.drafts import draft_photos
from training.labelling.model import load_model

FOUND, TIGHT = 0.5, 0.75  # IoU of a box that is the object's, and of one that need not be moved
STATES = ("before", "as many steps more, nothing corrected", "corrected")


@dataclass(frozen=True)
class Settings:
    """Train on half of the photos, on half of them again, and on all; print and write the mAP."""

    photos: Annotated[Path, tyro.conf.Positional]
    """Annotated folder with the splits train and val."""
    work: Path
    """Folder for the runs."""
    output: Path
    """JSON file to write."""
    pretrained: str = "none"
    """Run folder that the first training starts from."""
    steps: int = 160
    """Of each training."""
    seeds: int = 3
    """How many halves are drawn."""


def main(settings: Settings) -> None:
    """Measure, print and write."""
    data, val = Folders(FolderSettings((settings.photos,))).datasets(("train", "val"))
    seeds = [_measure_seed(settings, seed, data, val) for seed in range(settings.seeds)]
    found: dict[str, Any] = {"steps": settings.steps, "seeds": seeds}
    found["mean"] = {state: spread_metrics([seed[state] for seed in seeds]) for state in STATES}
    run_folder.write_json(settings.output, found)
    print(json.dumps([found["mean"], *(seed["boxes"] for seed in seeds)], indent=1))


def _measure_seed(s: Settings, seed: int, data: Dataset, val: Dataset) -> dict[str, Any]:
    """The figures of each state, and what the person had to do."""
    order = np.random.default_rng(seed).permutation(len(data.annotations))
    annotations = [data.annotations[place] for place in order]
    middle, folder = len(annotations) // 2, s.work / f"seed-{seed}"
    half = replace(data, annotations=tuple(annotations[:middle]))
    same: dict[str, Any] = {"seed": seed, "steps": s.steps}
    first = train_once(folder / "half", half, val, pretrained=s.pretrained, **same)
    further = same | {"pretrained": str(folder / "half" / "run")}
    again = train_once(folder / "again", half, val, **further)
    corrected = train_once(folder / "corrected", data, val, **further)
    figures = dict(zip(STATES, (first, again, corrected), strict=True))
    return figures | {"boxes": _count_work(folder / "half" / "run", annotations[middle:])}


def _count_work(run: Path, photos: list[Annotation]) -> dict[str, int]:
    """Of the boxes that the page shows: how many stay, are moved, go, and are missing."""
    drafts = draft_photos(load_model(run), [each.image_path for each in photos], SCORE_THRESHOLD)
    work = dict.fromkeys(("stay", "moved", "removed", "drawn"), 0)
    for draft, truth in zip(drafts, photos, strict=True):
        overlaps = _match(draft.annotation, truth)
        work["stay"] += int((overlaps >= TIGHT).sum())
        work["moved"] += int((overlaps < TIGHT).sum())
        work["removed"] += len(draft.annotation.labels) - len(overlaps)
        work["drawn"] += len(truth.labels) - len(overlaps)
    return work


def _match(drawn: Annotation, truth: Annotation) -> np.ndarray:
    """IoU of the pairs of boxes of one class, each in one pair at most, that are one object."""
    if not (len(drawn.labels) and len(truth.labels)):
        return np.empty(0)
    same = np.array(drawn.labels)[:, None] == np.array(truth.labels)
    overlaps = iou(drawn.boxes_xyxy, truth.boxes_xyxy) * same
    paired = overlaps[linear_sum_assignment(overlaps, maximize=True)]
    return np.asarray(paired[paired >= FOUND])


if __name__ == "__main__":
    main(tyro.cli(Settings))
