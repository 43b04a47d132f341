"""Tells what a Pascal VOC folder holds and what is wrong with it. Needs no TensorFlow."""

import collections
import dataclasses
import sys
from pathlib import Path

import numpy as np
import tyro

from training import voc

QUANTILES = {"smallest": 0.0, "10%": 0.1, "middle": 0.5, "90%": 0.9, "largest": 1.0}


@dataclasses.dataclass(frozen=True)
class CheckSettings:
    """Report what a Pascal VOC folder holds and what is wrong with it; exit code 1 if anything."""

    directory: tyro.conf.Positional[Path]
    """The VOC folder, with Annotations, JPEGImages and ImageSets/Main."""
    splits: tuple[str, ...] = ()
    """Names of the splits to look at; none given: all."""
    labels: tuple[str, ...] = ()
    """Class names that are expected; none given: those found are right."""


def run(settings: CheckSettings) -> int:
    """Print the report; 0 where nothing is wrong, else 1."""
    try:
        folder = voc.Folder(settings.directory)
        problems = _report_splits(folder, _splits(folder, settings), settings.labels or None)
    except (voc.DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(_verdict(problems)))
    return 1 if problems else 0


def _splits(folder: voc.Folder, settings: CheckSettings) -> list[str]:
    splits = list(settings.splits) or folder.splits()
    if not splits:
        raise voc.DataError(
            f"{folder.directory}/ImageSets/Main: no split; expected train.txt and val.txt, one "
            "image id a line"
        )
    return splits


def _report_splits(
    folder: voc.Folder, splits: list[str], labels: tuple[str, ...] | None
) -> list[voc.Problem]:
    """Print a report per split; the problems of all of them, each once."""
    problems: list[voc.Problem] = []
    for split in splits:
        try:
            dataset = folder.read(split, labels)
        except voc.BadSplitError as error:
            print(f"{split}: not readable")
            problems.append(voc.Problem(error.file, None, "bad split", str(error), "image"))
            continue
        print("\n".join(_split_lines(dataset)))
        problems += dataset.problems
    if len(splits) == len(folder.splits()):
        problems += folder.strays()
    return list(dict.fromkeys(problems))


def _split_lines(dataset: voc.Dataset) -> list[str]:
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


def _class_text(dataset: voc.Dataset, label: str) -> str:
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


def _verdict(problems: list[voc.Problem]) -> list[str]:
    if not problems:
        return ["nothing is wrong"]
    kinds = collections.Counter(problem.fatal_for for problem in problems)
    counts = ", ".join(f"{voc.CONSEQUENCE[key]}: {kinds[key]}" for key in kinds)
    return [f"{len(problems)} problems ({counts})", *voc.describe(problems)]
