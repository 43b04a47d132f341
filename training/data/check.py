"""Tells what annotated folders hold and what is wrong with them. Needs no TensorFlow."""

import collections
import dataclasses
import shlex

import numpy as np

from training.data.annotations import Dataset
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.data.problems import CONSEQUENCE, BadSplitError, DataError, Problem, describe_problems
from training.data.small_objects import advise_small

FEW = 10  # boxes
SHOWN = 5  # classes of few boxes
INPUT = 320  # the side of the default preset's input, pixels
QUANTILES = {"smallest": 0.0, "10%": 0.1, "middle": 0.5, "90%": 0.9, "largest": 1.0}


@dataclasses.dataclass(frozen=True)
class CheckSettings(FolderSettings):
    """Report what annotated folders hold and what is wrong with them.

    A problem is what is left out or wrong, and gives the exit code 1. A remark is what `records`
    copes with without loss. The formats are told apart by their layout.
    """

    _: dataclasses.KW_ONLY
    splits: tuple[str, ...] = ()
    """Names of the splits to look at; none given: all."""
    strict: bool = False
    """Exit with 1 for remarks, too."""
    full: bool = False
    """Name everything that is wrong, not three of a kind."""


def check_folders(settings: CheckSettings) -> int:
    """Print the report; 0 where there is no problem (with `strict`: no remark either), else 1."""
    return report_folders(Folders(settings), settings)


def report_folders(folders: Folders, settings: CheckSettings) -> int:
    """As `check_folders`, of folders that are open already."""
    problems = _report_splits(folders, settings)
    print("\n".join(_verdict(problems, settings.full)))
    return 1 if any(settings.strict or not problem.is_remark for problem in problems) else 0


def _report_splits(folders: Folders, settings: CheckSettings) -> list[Problem]:
    """Print a report per split; the problems of all of them, each once."""
    print("\n".join(folders.notes()))
    splits = settings.splits or tuple(folders.splits())
    folders.check_renames(splits)
    problems: list[Problem] = []
    found: dict[str, Dataset] = {}
    for split in splits:
        try:
            dataset = found[split] = folders.read(split, settings.labels or None)
        except BadSplitError as error:
            print(f"{split}: not readable")
            problems.append(_refusal(error, error.file))
            continue
        print("\n".join(_split_lines(dataset)))
        problems += dataset.problems
    print("".join(f"{line}\n" for line in _small_lines(found)), end="")
    few = _few_lines(found)
    print("".join(f"{line}\n" for line in few[:SHOWN]), end="")
    if len(few) > SHOWN:
        print(f"and {len(few) - SHOWN} more classes of few boxes")
    if set(folders.splits()) <= set(splits):
        problems += folders.strays()
    try:
        folders.datasets(settings.splits, settings.labels)
    except BadSplitError as error:
        problems.append(_refusal(error, error.file))
    except DataError as error:
        problems.append(_refusal(error, "records"))
    return list(dict.fromkeys(problems))


def _refusal(error: DataError, file: str) -> Problem:
    """That `records` would not go on; what led to it is told in detail anyway."""
    return Problem(file, None, "bad split", str(error).partition("\n")[0], "split")


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


def _small_lines(found: dict[str, Dataset]) -> list[str]:
    """What helps where objects are too small for the default preset's input."""
    shares = [
        (a.boxes_xyxy[:, 2:] - a.boxes_xyxy[:, :2])[~a.difficult] / (a.width, a.height)
        for dataset in found.values()
        for a in dataset.annotations
    ]
    text = advise_small(np.concatenate([np.zeros((0, 2)), *shares]), INPUT)
    return [f"small objects: {text}"] if text else []


def _few_lines(found: dict[str, Dataset]) -> list[str]:
    """A line for each class of few boxes: what mAP can mean with it."""
    train, val = (
        collections.Counter(label for a in found[split].annotations for label in a.labels)
        if split in found
        else None
        for split in ("train", "val")
    )
    if train is None or val is None:
        return []
    labels = sorted(train | val)
    others = len(labels) > 1
    help_rare = ", train with --repeat-rare 0.5 --weigh-rare 0.5" if others else ""
    leave_out = ", or leave it out with --rename {}" if others else ""
    return [
        f"few boxes: {label} has {train[label]} in train and {val[label]} in val, so "
        + (
            f"each that is found or not is {1 / val[label]:.0%} of its AP, which counts in mAP "
            "like any other class's"
            if val[label]
            else "mAP tells nothing of it"
        )
        + f": annotate more{help_rare if train[label] else ''}"
        + leave_out.format(shlex.quote(f"{label}="))
        for label in labels
        if min(train[label], val[label]) < FEW
    ]


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


def _verdict(problems: list[Problem], full: bool) -> list[str]:
    remarks = [problem for problem in problems if problem.is_remark]
    grave = [problem for problem in problems if not problem.is_remark]
    told = [*_level_lines("problem", grave, full), *_level_lines("remark", remarks, full)]
    return told if grave else [*told, "nothing is wrong"]


def _level_lines(level: str, problems: list[Problem], full: bool) -> list[str]:
    """The heading of a level, and what is of it; nothing where there is none."""
    if not problems:
        return []
    kinds = collections.Counter(problem.fatal_for for problem in problems)
    counts = ", ".join(f"{CONSEQUENCE[key]}: {kinds[key]}" for key in kinds)
    heading = f"{len(problems)} {level}{'s' * (len(problems) > 1)} ({counts})"
    examples = len(problems) if full else 3
    return [heading, *describe_problems(problems, examples)]
