"""A page of two runs: in what they differ, and the photos that changed most, drawn for each.

FOLDER/index.html   the page; it needs nothing but this folder
FOLDER/photos/*.jpg the photos, with what either run found
FOLDER/report.json  the same figures for programs, and the list of these files
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from training.comparison.measured import Change, Measured
from training.data import records
from training.evaluation import report
from training.evaluation.page import TEMPLATES, make_legend

SHOWN = 20  # photos
_SIDE = (640, 1200)  # pixels, the longer side of each is brought between these


def write_changes(
    folder: Path, runs: tuple[Path, Path], measured: Measured, settings: Sequence[str]
) -> Path:
    """Write the page and return its index.html; an older page or report there is replaced.

    settings: the lines that tell in which settings the runs differ.

    Raises:
        TrainingError: `folder` holds something else than a report.
    """
    return report.replace_folder(folder, lambda new: _write_files(new, runs, measured, settings))


def _write_files(
    folder: Path, runs: tuple[Path, Path], measured: Measured, settings: Sequence[str]
) -> None:
    (folder / "photos").mkdir(parents=True)
    shown = measured.changes[:SHOWN]
    paths = {
        change.image_id: (f"photos/{place:02d}-before.jpg", f"photos/{place:02d}-after.jpg")
        for place, change in enumerate(shown, start=1)
    }
    _draw_photos(folder, measured, paths)
    page = TEMPLATES.get_template("comparison/changes.html").render(
        runs=runs,
        measured=measured,
        settings=settings,
        **make_legend(measured.before.labels),
        shown=shown,
        paths=paths,
    )
    (folder / "index.html").write_text(page, encoding="utf-8")
    report.write_document(folder, _tell_figures(runs, measured, settings))


def _draw_photos(folder: Path, measured: Measured, paths: dict[str, tuple[str, str]]) -> None:
    """Read the split once more, and decode only these photos."""
    for example in records.dataset(measured.before.manifest).as_numpy_iterator():
        image_id = example["image_id"].decode()
        for found, path in zip(
            (measured.before, measured.after), paths.get(image_id, ()), strict=False
        ):
            picture = found.draw_outcome(image_id, example["encoded"], _SIDE)
            Image.fromarray(picture).save(folder / path, quality=88)


def _tell_figures(
    runs: tuple[Path, Path], measured: Measured, settings: Sequence[str]
) -> dict[str, Any]:
    """All figures, ready for json."""
    figures: dict[str, Any] = {
        "runs": [str(run) for run in runs],
        "settings": list(settings),
        "split": measured.before.manifest.split,
        "metrics": [found.facts for found in (measured.before, measured.after)],
        "mistakes": {x.image_id: _mistakes(x) for x in measured.changes},
    }
    if told := measured.difference:
        figures["difference"] = dict(zip(measured.names, told.figures, strict=True))
        figures["difference"]["per_class"] = {
            label: dict(zip(measured.names, both, strict=True))
            for label, both in told.per_class.items()
        }
    return figures


def _mistakes(change: Change) -> list[int]:
    return [change.before.mistakes, change.after.mistakes]
