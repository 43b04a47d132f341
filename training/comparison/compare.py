"""`training compare`: in what two runs differ, and what came of it."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro

from training import run_folder
from training.comparison import changes
from training.comparison.measured import Measured, find_val, measure_runs
from training.data import records
from training.errors import TrainingError
from training.evaluation import report
from training.runs import FIGURES, find_figure

_ALL = "all classes"
_LONGEST = 60  # characters of a setting, such as boxes of many shapes
_NAMED = 5  # photos that changed most, on the command line
_FOLDER = tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")


@dataclasses.dataclass(frozen=True)
class CompareSettings:
    """Say in which settings two runs differ, and what each finds on the val photos of both:
    whether the difference is more than chance, and in which photos it lies."""

    before: Annotated[Path, tyro.conf.Positional]
    """A run folder, or the best/ in it."""
    after: Annotated[Path, tyro.conf.Positional]
    """Another."""
    records: Annotated[Path | None, _FOLDER] = None
    """Measure both on the val of these records, instead of those that they were trained with."""
    report: Annotated[Path | None, _FOLDER] = None
    """Folder for a page with the photos that changed most, as both see them. Replaces an older."""


def compare_runs(settings: CompareSettings) -> int:
    """Print what differs, and write the page where one is wanted.

    Raises:
        TrainingError: one of the folders holds no run, or a damaged one; the runs were measured on
            different photos; a page is wanted of photos that are not there.
    """
    runs = settings.before, settings.after
    if settings.report:
        report.check_replaceable(settings.report)  # so that nobody waits for a refusal
    with _telling_damage(runs):
        lines = _tell_settings(runs)
        print("\n".join([*lines, ""]), flush=True)
        val = _choose_val(runs, settings.records)
        if val is None:
            print("\n".join(_tell_classes(runs)))
    if val is None and settings.report:
        raise TrainingError("no page: it needs records with val photos of the labels of both runs")
    if val:
        measured = measure_runs(runs, val)
        print("\n".join(_tell_measured(measured)))
        if settings.report:
            print(f"page: {changes.write_changes(settings.report, runs, measured, lines)}")
    return 0


@contextlib.contextmanager
def _telling_damage(runs: tuple[Path, Path]) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TrainingError(
            f"run.json or metrics.json of {runs[0]} or {runs[1]} is not as `training train` "
            f"writes it ({error!r}): `training runs` names damaged runs"
        ) from None


def _choose_val(runs: tuple[Path, Path], folder: Path | None) -> records.Manifest | None:
    """The split to measure both on; None where there is none that both can be measured on."""
    if folder:
        return records.load_manifest(folder, "val")
    one, other = (run_folder.read_description(run)["labels"] for run in runs)
    return find_val(runs) if one == other else None


def _tell_measured(measured: Measured) -> list[str]:
    """A line a class, what it means, and the photos that changed most."""
    found = measured.before
    rows = [("", *measured.names), *measured.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        f"{len(found.truth)} photos of {found.manifest.split}, measured anew with both",
        *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows),
        *measured.notes,
        "",
        measured.changes_text,
        *(
            f"  {each.image_id}: {each.before.mistakes} -> {each.after.mistakes}"
            for each in measured.changes[:_NAMED]
        ),
    ]


def _tell_settings(runs: tuple[Path, Path]) -> list[str]:
    one, other = map(run_folder.read_description, runs)
    were, are = one["settings"], other["settings"]
    keys = [
        key
        for key in were | are
        if key not in ("output", "mlflow") and were.get(key) != are.get(key)
    ]
    lines = [f"{key}: {_text(were.get(key))} -> {_text(are.get(key))}" for key in keys]
    if one["preset"]["name"] == other["preset"]["name"]:  # else all of it differs
        lines += [
            f"the preset's {key}: {_text(value)} -> {_text(other['preset'].get(key))}"
            for key, value in one["preset"].items()
            if key not in keys and other["preset"].get(key) != value
        ]
    if one["labels"] != other["labels"]:
        lines.append(f"labels: {', '.join(one['labels'])} -> {', '.join(other['labels'])}")
    if one["fingerprint"] != other["fingerprint"]:
        lines.append("They were trained on different photos, or different boxes in them")
    return lines or ["settings and photos are the same"]


def _text(value: Any) -> str:
    text = "the preset's" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


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
    return [
        *lines,
        f"measured on {counts[0]} -> {counts[1]}, as the runs tell it: without the photos nobody "
        "knows what is chance. --records FOLDER names some",
    ]


def _change(one: dict[str, Any], other: dict[str, Any], label: str, key: str) -> str:
    was, now = (find_figure(each.get(label, {}), key) for each in (one, other))
    if was is None or now is None or was[0] != now[0]:
        return f"{key} {_figure(was)} -> {_figure(now)}"
    return f"{key} {_figure(was)} -> {_figure(now)} ({now[1] - was[1]:+.3f})"


def _figure(found: tuple[str, float] | None) -> str:
    """Three digits, and where the photos were trained on, that."""
    return f"{found[1]:.3f}{found[0]}" if found else "none"
