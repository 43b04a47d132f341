"""`training run`: all steps from annotated photos to what can be served, each once.

    OUTPUT/begun.json     what it was begun with
    OUTPUT/samples/       some photos of val, for the page to try it on
    OUTPUT/records/       `training records`
    OUTPUT/boxes.json     `training fit`, for presets whose boxes have shapes
    OUTPUT/run/           `training train`, with report/index.html
    OUTPUT/float32/       `training export`, an artifact
    OUTPUT/int8/          another, the last of all: where it is, all is whole

Every step calls what its own command calls, and what it makes stands in its place only when it is
whole. So a step is done where that stands, and a killed command goes on with the step it was in.
"""

import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from training import fit, strategy, train
from training.data import check, records, records_writer, tiles
from training.data.annotations import Dataset
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.errors import TrainingError
from training.evaluation import evaluate, measure, score
from training.export import export
from training.network.presets import PRESETS
from training.pipeline.begun import check_output, check_photos, has_begun
from training.pipeline.settings import RunSettings
from training.pretrained import check_pretrained
from training.settings import TrainSettings, check_ranges

SAMPLES = 6
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Step:
    """One of the steps.

    made: what it leaves and is removed where a step before it has still to be done; None: nothing.
    is_done: whether what it leaves is there, whole and of these settings.
    """

    purpose: str
    made: Path | None
    is_done: Callable[[], bool]
    take: Callable[[], object]


def run_photos(settings: RunSettings) -> int:
    """Take every step that is not done yet.

    Raises:
        TrainingError: a step cannot be taken; what was done before stays.
    """
    if strategy.in_cluster():
        raise TrainingError(
            "`training run` is for one machine, and TF_CONFIG in the environment names several: "
            "write records on one of them, then `training train` on all (docs/training-cluster.md)"
        )
    training = _train_settings(settings)
    check_output(settings)
    check_ranges(training)
    if not (training.output / "run.json").exists():
        preset = train.choose_preset(replace(training, default_boxes=None))
        tiles.check_tile(settings.tile, preset.input_size)
        check_pretrained(training, preset)
    folders = Folders(_shared(FolderSettings, settings))
    datasets = _read_photos(settings, folders)
    _clear_away(settings.output)
    _take_steps(_plan_steps(settings, training, folders, datasets))
    print(_end_text(settings.output, settings.tile))
    return 0


def _read_photos(settings: RunSettings, folders: Folders) -> list[Dataset]:
    """Train, and val if there is one; after what they hold was told, or found to be the same."""
    if has_begun(settings.output):
        print("\n".join(folders.notes()), flush=True)
    else:
        _announce("Check: what the photos hold, and what is wrong with them")
        check.report_folders(folders, _shared(check.CheckSettings, settings))
    datasets = folders.datasets((), settings.labels)
    train_split = datasets[0]
    if train_split.split != "train" or not any(a.labels for a in train_split.annotations):
        raise TrainingError(
            f"{folders}: no image of train has a box of {', '.join(train_split.labels)}: nothing "
            "to learn from"
        )
    check_photos(settings, datasets)
    return datasets


def _clear_away(output: Path) -> None:
    """Remove what a killed command was writing; it stands under another name until it is whole."""
    for leftover in (*output.glob(".export-*"), *(output / "run").glob(".report-*")):
        shutil.rmtree(leftover)


def _shared(kind: type[Settings], settings: RunSettings, **more: Any) -> Settings:
    """Another command's settings, with what these say of the folders.

    The seed that holds photos out stays the default one: that of the settings trains.
    """
    names = {field.name for field in fields(FolderSettings)} - {"seed"}
    return kind(**{name: getattr(settings, name) for name in names}, **more)


def _train_settings(settings: RunSettings) -> TrainSettings:
    names = {field.name for field in fields(TrainSettings)} - {"output"}
    shared = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name in names}
    boxes = settings.output / "boxes.json" if _has_shapes(settings) else None
    folders = settings.output / "records", settings.output / "run"
    return TrainSettings(*folders, default_boxes=boxes, **shared)


def _has_shapes(settings: RunSettings) -> bool:
    """Whether the preset's default boxes have shapes to fit; adaptive matching needs none."""
    return PRESETS[settings.preset].matching == "overlap"


def _take_steps(steps: list[Step]) -> None:
    for number, step in enumerate(steps, start=1):
        _announce(f"{number} of {len(steps)}. {step.purpose}")
        if step.is_done():
            print("already there")
            continue
        for later in steps[number:]:
            if later.made:
                _remove(later.made)
        step.take()


def _announce(purpose: str) -> None:
    print(f"\n{purpose}", flush=True)


def _remove(path: Path) -> None:
    """What was made of what is not there, or no longer what it was."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _plan_steps(
    settings: RunSettings, training: TrainSettings, folders: Folders, datasets: list[Dataset]
) -> list[Step]:
    run, boxes = training.output, training.default_boxes
    steps = [_records_step(settings, training.records, folders, datasets)]
    if boxes:
        fitting = fit.FitSettings(
            training.records, boxes, settings.preset, settings.input_size, settings.resize
        )
        steps.append(
            Step("Fit: default boxes", boxes, boxes.exists, lambda: fit.fit_default_boxes(fitting))
        )
    return [
        *steps,
        Step(
            f"Train: {settings.preset}",
            None,
            lambda: train.is_complete(training),
            lambda: train.train_detector(training),
        ),
        _report_step(training.records, run),
        *(_export_step(run, settings.output / name, name) for name in ("float32", "int8")),
    ]


def _records_step(
    settings: RunSettings, output: Path, folders: Folders, datasets: list[Dataset]
) -> Step:
    writing = _shared(records_writer.RecordsSettings, settings, output=output, tile=settings.tile)

    def write() -> None:
        _copy_samples(datasets[-1], settings.output / "samples")
        records_writer.write_folders(folders, writing)

    return Step(
        "Records: photos and boxes as TFRecords",
        None,
        lambda: all(_is_whole(output, dataset.split) for dataset in datasets),
        write,
    )


def _copy_samples(dataset: Dataset, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for annotation in dataset.annotations[:SAMPLES]:
        shutil.copyfile(annotation.image_path, folder / annotation.image_path.name)


def _is_whole(folder: Path, split: str) -> bool:
    try:
        records.load_manifest(folder, split)
    except records.ManifestError:
        return False
    return True


def _report_step(data: Path, run: Path) -> Step:
    report = run / "report"
    evaluating = evaluate.EvaluateSettings(data, run=run, report=report)
    return Step(
        "Evaluate: mAP on val, and the report",
        report,
        lambda: report.exists() or not _is_measurable(data),
        lambda: evaluate.evaluate_detector(evaluating),
    )


def _is_measurable(data: Path) -> bool:
    """Whether there is a val split with an object to find."""
    return _is_whole(data, "val") and score.is_measurable(
        measure.read_truth(records.load_manifest(data, "val"))
    )


def _export_step(run: Path, artifact: Path, precision: Any) -> Step:
    exporting = export.ExportSettings(run, artifact, precision=precision)
    return Step(
        f"Export: {precision}",
        artifact,
        artifact.exists,
        lambda: export.export_run(exporting),
    )


def _end_text(output: Path, tile: int) -> str:
    """What there is now, and what to type next."""
    report, quoted = output / "run" / "report" / "index.html", shlex.quote(str(output))
    repository = shlex.quote(f"repositories/{output.resolve().name}")
    return "\n".join(
        [
            f"\n{output} is ready",
            f"  report    {report if report.exists() else 'none: val has no object'}",
            f"  try it    python app.py --artifact {quoted}",
            f"  serve it  python -m serving publish {quoted}/int8 --repository {repository}",
            *([f"  ask it    python -m client detect PHOTO --tile {tile}"] if tile else []),
        ]
    )
