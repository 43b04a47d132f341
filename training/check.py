"""Tells what annotated folders hold and what is wrong with them. Needs no TensorFlow."""

import collections
import dataclasses
import sys
from pathlib import Path

import numpy as np
import tyro

from training import annotations
from training.annotations import BadSplitError, DataError, Dataset, Problem
from training.folders import Folders

QUANTILES = {"smallest": 0.0, "10%": 0.1, "middle": 0.5, "90%": 0.9, "largest": 1.0}


@dataclasses.dataclass(frozen=True)
class CheckSettings:
    """Report what annotated folders hold and what is wrong with them; exit code 1 if anything.

    Pascal VOC, COCO JSON and YOLO text folders are told apart by their layout.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """One folder, or several that become one set of images."""
    splits: tuple[str, ...] = ()
    """Names of the splits to look at; none given: all."""
    labels: tuple[str, ...] = ()
    """Class names that are expected; none given: those found are right."""
    rename: tuple[str, ...] = ()
    """old=new: other names for classes, several may get the same; old= drops the class."""
    val: float = 0.2
    """Share of a folder's images, 0 to 1, that is held out as val where it names no val."""
    seed: int = 0
    """Another seed holds out other images."""
    resplit: bool = False
    """Hold out by ratio even where a folder has its own val."""


def run(settings: CheckSettings) -> int:
    """Print the report; 0 where nothing is wrong, else 1."""
    try:
        folders = Folders(
            settings.folders, settings.rename, settings.val, settings.seed, settings.resplit
        )
        problems = _report(folders, settings)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if settings.folders else 2
    print("\n".join(_verdict(problems)))
    return 1 if problems else 0


def _report(folders: Folders, settings: CheckSettings) -> list[Problem]:
    """Print a report per split; the problems of all of them, each once."""
    print("\n".join(folders.notes()))
    splits = settings.splits or tuple(folders.splits())
    folders.check_renames(splits)
    problems: list[Problem] = []
    for split in splits:
        try:
            dataset = folders.read(split, settings.labels or None)
        except BadSplitError as error:
            print(f"{split}: not readable")
            problems.append(Problem(error.file, None, "bad split", str(error), "image"))
            continue
        print("\n".join(_split_lines(dataset)))
        problems += dataset.problems
    if set(folders.splits()) <= set(splits):
        problems += folders.strays()
    return list(dict.fromkeys(problems))


def _split_lines(dataset: Dataset) -> list[str]:
    empty = sum(not item.labels for item in dataset.annotations)
    lines = [
        f"{dataset.split}: {len(dataset.annotations)} images"
        + (f", {empty} of them without boxes" if empty else "")
    ]
    if not dataset.labels:
        return lines
    width = max(len(label) for label in dataset.labels)
    heads = [f"{'':{width}}", "boxes", "difficult", *(f"{head:>9}" for head in QUANTILES)]
    lines.append("  " + "  ".join(heads) + "  (width x height, pixels)")
    lines += [f"  {label:{width}}  {_class_text(dataset, label)}" for label in dataset.labels]
    return lines


def _class_text(dataset: Dataset, label: str) -> str:
    chosen = [np.array([name == label for name in a.labels], bool) for a in dataset.annotations]
    pairs = list(zip(dataset.annotations, chosen, strict=True))
    boxes_xyxy = np.concatenate([np.zeros((0, 4)), *(a.boxes_xyxy[which] for a, which in pairs)])
    difficult = sum(int(a.difficult[which].sum()) for a, which in pairs)
    text = f"{len(boxes_xyxy):5}  {difficult:9}"
    return f"{text}  {_sizes_text(boxes_xyxy)}" if len(boxes_xyxy) else text


def _sizes_text(boxes_xyxy: np.ndarray) -> str:
    sizes = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    quantiles = np.quantile(sizes, list(QUANTILES.values()), axis=0)  # [5, 2]
    return "  ".join(f"{f'{width:.0f}x{height:.0f}':>9}" for width, height in quantiles)


def _verdict(problems: list[Problem]) -> list[str]:
    if not problems:
        return ["nothing is wrong"]
    kinds = collections.Counter(problem.fatal_for for problem in problems)
    counts = ", ".join(f"{annotations.CONSEQUENCE[key]}: {kinds[key]}" for key in kinds)
    return [f"{len(problems)} problems ({counts})", *annotations.describe(problems)]
