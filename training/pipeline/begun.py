"""What an output folder was begun with, so that only the same goes on in it.

OUTPUT/begun.json   the settings, and of each image a digest of its file and its boxes
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.data.annotations import Annotation, Dataset
from training.data.records import photo_id
from training.errors import TrainingError
from training.pipeline.settings import RunSettings
from training.run_folder import plain_settings, read_json, write_json

NAME = "begun.json"
# Photos may have moved: that they are the same ones is seen. How long a run is `train` judges.
_FREE = ("folders", "frozen", "output", "epochs", "stop_early")


def has_begun(output: Path) -> bool:
    """Whether it is a folder that this command began."""
    return (output / NAME).exists()


def check_output(settings: RunSettings) -> None:
    """Refuse a folder that holds something else, or was begun with other settings.

    Raises:
        TrainingError: it does, or was.
    """
    output = settings.output
    for folder in settings.folders:
        if output.resolve().is_relative_to(folder.resolve()):
            raise TrainingError(
                f"--output {output} lies in the photos' folder {folder}, where what is written "
                "would be read as photos the next time: choose another"
            )
    if not has_begun(output):
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise TrainingError(
                f"{output} exists already and is nothing that this command began: choose another "
                "--output"
            )
        return
    before, now = _read(output)["settings"], plain_settings(settings)
    changed = [
        f"--{key.replace('_', '-')} (was {before[key]!r}, now {value!r})"
        for key, value in now.items()
        if key not in _FREE and before.get(key, value) != value
    ]
    if changed:
        raise TrainingError(
            f"{output} was begun with other settings: {', '.join(changed)}. Give the same ones to "
            "go on, or another --output"
        )


def check_photos(settings: RunSettings, datasets: Sequence[Dataset]) -> None:
    """Begin the output folder, or refuse other photos than it was begun with.

    Raises:
        TrainingError: they are others.
    """
    output, now = settings.output, _digests(datasets)
    if not has_begun(output):
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / NAME, {"settings": plain_settings(settings), "photos": now})
        return
    before = _read(output)["photos"]
    if before != now:
        raise TrainingError(
            f"the photos are not those that {output} was begun with, {_differences(before, now)}: "
            "give those to go on, or another --output"
        )


def _read(output: Path) -> dict[str, Any]:
    return read_json(output / NAME, "what `training run` wrote as it began")


def _digests(datasets: Sequence[Dataset]) -> dict[str, str]:
    return {
        f"{dataset.split}/{annotation.image_id}": _digest(annotation)
        for dataset in datasets
        for annotation in dataset.annotations
    }


def _digest(annotation: Annotation) -> str:
    """Of the file and of what counts of its boxes."""
    boxes = annotation.boxes_xyxy.tolist(), annotation.labels, annotation.difficult.tolist()
    content = json.dumps([photo_id(annotation.image_path), boxes]).encode()
    return hashlib.sha256(content).hexdigest()[:12]


def _differences(before: dict[str, str], now: dict[str, str]) -> str:
    """What is told of them: how many, and one by name."""
    kinds = {
        "new": now.keys() - before.keys(),
        "gone": before.keys() - now.keys(),
        "changed": {name for name in before.keys() & now.keys() if before[name] != now[name]},
    }
    return ", ".join(
        f"{len(names)} {kind} (such as {min(names)})" for kind, names in kinds.items() if names
    )
