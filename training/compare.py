"""`training compare`: in what two runs differ, and what came of it."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from training import run_folder
from training.errors import TrainingError
from training.runs import FIGURES, find_figure

_ALL = "all classes"


@dataclasses.dataclass(frozen=True)
class CompareSettings:
    """Say in which settings two runs differ, and in the mAP of which classes."""

    before: Annotated[Path, tyro.conf.Positional]
    """A run folder, or the best/ in it."""
    after: Annotated[Path, tyro.conf.Positional]
    """Another."""


def compare_runs(settings: CompareSettings) -> int:
    """Print the settings and the mAP of classes that differ.

    Raises:
        TrainingError: one of the folders holds no run, or a damaged one.
    """
    runs = settings.before, settings.after
    try:
        print("\n".join([*_tell_settings(runs), "", *_tell_classes(runs)]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TrainingError(
            f"run.json or metrics.json of {runs[0]} or {runs[1]} is not as `training train` "
            f"writes it ({error!r}): `training runs` names damaged runs"
        ) from None
    return 0


def _tell_settings(runs: tuple[Path, Path]) -> list[str]:
    one, other = map(run_folder.read_description, runs)
    were, are = one["settings"], other["settings"]
    keys = [key for key in were | are if key != "output" and were.get(key) != are.get(key)]
    lines = [f"{key}: {_text(were.get(key))} -> {_text(are.get(key))}" for key in keys]
    if one["preset"]["name"] == other["preset"]["name"]:  # else all of it differs
        lines += [
            f"the preset's {key}: {value} -> {other['preset'].get(key)}"
            for key, value in one["preset"].items()
            if key not in keys and other["preset"].get(key) != value
        ]
    if one["labels"] != other["labels"]:
        lines.append(f"labels: {', '.join(one['labels'])} -> {', '.join(other['labels'])}")
    if one["fingerprint"] != other["fingerprint"]:
        lines.append("They were trained on different photos, or different boxes in them")
    return lines or ["settings and photos are the same"]


def _text(value: Any) -> str:
    return "the preset's" if value is None else str(value)


def _tell_classes(runs: tuple[Path, Path]) -> list[str]:
    """A line a class that either knows, and what to mind where the photos may differ."""
    metrics = [run_folder.read_metrics(run) for run in runs]
    unknown = [str(run) for run, figures in zip(runs, metrics, strict=True) if figures is None]
    if unknown:
        return [f"the newest checkpoint of {' and '.join(unknown)} was not evaluated"]
    one, other = ({_ALL: each} | each["per_class"] for each in metrics if each)
    width = max(map(len, one | other))
    lines = [
        f"{label:{width}}  " + "  ".join(_change(one, other, label, key) for key in FIGURES)
        for label in one | other
    ]
    counts = [f"{each['images']} of {each['split']}" for each in metrics if each]
    return [*lines, f"measured on {counts[0]} -> {counts[1]}"]


def _change(one: dict[str, Any], other: dict[str, Any], label: str, key: str) -> str:
    was, now = (find_figure(each.get(label, {}), key) for each in (one, other))
    if was is None or now is None or was[0] != now[0]:
        return f"{key} {_figure(was)} -> {_figure(now)}"
    return f"{key} {_figure(was)} -> {_figure(now)} ({now[1] - was[1]:+.3f})"


def _figure(found: tuple[str, float] | None) -> str:
    """Three digits, and where the photos were trained on, that."""
    return f"{found[1]:.3f}{found[0]}" if found else "none"
