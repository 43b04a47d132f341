"""`training prelabel`: a model's boxes for a folder of photos, to correct instead of to draw."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from training.errors import TrainingError
from training.export.reference import SCORE_THRESHOLD
from training.labelling.draft_folder import (
    Format,
    check_absent,
    make_folder,
    name_photos,
    write_drafts,
)
from training.labelling.drafts import Draft, count_labels, draft_photos, find_photos
from training.labelling.model import load_model


@dataclass(frozen=True)
class PrelabelSettings:
    """Write a model's boxes for a folder of photos, for CVAT, Label Studio or labelImg to open."""

    model: Annotated[Path, tyro.conf.Positional]
    """Folder of an artifact, its model.onnx, or a run folder of `training train`."""
    photos: Annotated[Path, tyro.conf.Positional]
    """Folder of photos; those in folders of it count, too."""
    output: Path
    """Folder to make, of the photos and their boxes; photos are copied to another disk only."""
    format: Format = "voc"
    """How boxes are written: voc for labelImg and CVAT, coco for CVAT and Label Studio, yolo for
    labelImg and Label Studio; yolo alone keeps no scores."""
    score_threshold: float = SCORE_THRESHOLD
    """Boxes that score above it are written, 0 to 1: a lower one leaves more to remove and less to
    draw."""


def prelabel_photos(settings: PrelabelSettings) -> int:
    """Write the folder and say what is in it.

    Raises:
        TrainingError: no model, no photos, or a folder that is there.
    """
    check_settings(settings)
    network = load_model(settings.model)
    photos = find_photos(settings.photos)
    drafts = draft_photos(network, photos, settings.score_threshold)
    names = name_photos((draft.annotation.image_path for draft in drafts), settings.photos)
    with make_folder(settings.output) as folder:
        named = dict(zip(names, drafts, strict=True))
        write_drafts(named, network.labels, folder, settings.format)
    print(describe_folder(settings, drafts, network.labels))
    return 0


def check_settings(settings: PrelabelSettings) -> None:
    """Refuse what need not wait for the model.

    Raises:
        TrainingError: a folder that is there, or a threshold out of its range.
    """
    check_absent(settings.output)
    if not 0 <= settings.score_threshold <= 1:
        raise TrainingError(f"--score-threshold must be 0 to 1, got {settings.score_threshold}")


def describe_folder(
    settings: PrelabelSettings, drafts: list[Draft], labels: tuple[str, ...]
) -> str:
    """How many photos and boxes were written."""
    counts = zip(labels, count_labels(drafts, labels).tolist(), strict=True)
    boxes = ", ".join(f"{label} {count}" for label, count in counts)
    return f"{settings.output}: {len(drafts)} photos in {settings.format}; boxes: {boxes}"
