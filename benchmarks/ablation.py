"""What each ingredient of the compact preset's training gives, one change at a time.

    python benchmarks/ablation.py data/records --default-boxes data/boxes.json \\
        --pretrained runs/smears --output runs/ablation

One seed and a shortened schedule, the same for all: a row shows whether an ingredient matters, not
the mAP to expect. It can be interrupted and started again: each row is a run folder of
`training train`. Two processes with another `--only` each may share the work.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import keras
import tyro

from training import train
from training.errors import TrainingError
from training.fitted_boxes import load_fitted
from training.network.presets import SSD_COMPACT
from training.settings import TrainSettings

FINAL = "as shipped"
# name: (fields of the preset, fields of the settings)
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    FINAL: ({}, {}),
    "no pretraining on rendered smears": ({}, {"pretrained": None}),
    "no moving average of the weights": ({}, {"average_decay": 0.0}),
    "no batch normalisation in the head": ({"head_norm": False}, {}),
    "the preset's default boxes": ({"box_shapes": None}, {}),
    "with photometric distortion": ({"photometric": True}, {}),
    "no zoom-out": ({"zoom_out": 1.0}, {}),
    "no crops": ({"smallest_crop": 1.0}, {}),
    "matching from IoU 0.4": ({"matching_iou": 0.4}, {}),
    "GIoU loss for boxes": ({"box_loss": "giou", "box_weight": 2.0}, {}),
    "focal loss for classes": ({"class_loss": "focal"}, {}),
    "input 360x360": ({"input_size": 360, "feature_maps": (45, 23, 12, 6, 3, 1)}, {}),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Train the compact preset once for each ingredient left out or changed, and print a table."""

    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote, with the splits train and val."""
    default_boxes: Path
    """File that `training fit` wrote."""
    output: Path
    """Folder for the runs and for ablation.json."""
    pretrained: str | None = None
    """Run folder of the pretraining."""
    epochs: int = 15
    """Passes over the training data, the same for each row."""
    seed: int = 0
    """The same for each row."""
    only: tuple[str, ...] = ()
    """Words in the names of the rows to train; none given: all."""


def main(settings: Settings) -> None:
    for name in ROWS:
        if not settings.only or any(word in name for word in settings.only):
            keras.backend.clear_session()
            print(f"\n{name}")
            _train(settings, name)
    print(_table(settings))


def _train(settings: Settings, name: str) -> None:
    changes, options = ROWS[name]
    preset = dataclasses.replace(SSD_COMPACT, photometric=False)
    preset = load_fitted(settings.default_boxes, preset)
    common = TrainSettings(
        settings.records,
        _folder(settings, name),
        preset="ssd_compact",
        epochs=settings.epochs,
        seed=settings.seed,
        pretrained=settings.pretrained,
        precision="bfloat16",
        vertical_flip=True,
        evaluate_every=settings.epochs,
        checkpoint_every=settings.epochs,
    )
    train.train_preset(
        dataclasses.replace(common, **options),
        dataclasses.replace(preset, **changes),
    )


def _folder(settings: Settings, name: str) -> Path:
    return settings.output / "".join(c if c.isalnum() else "-" for c in name.lower())


def _table(settings: Settings) -> str:
    """Markdown, and the same as JSON beside the runs."""
    rows = {}
    for name in ROWS:
        path = _folder(settings, name) / "metrics.json"
        if path.exists():
            metrics = json.loads(path.read_text())
            if metrics["epoch"] == settings.epochs:
                rows[name] = metrics
    (settings.output / "ablation.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = ["| | mAP@0.5 | mAP@[.5:.95] |", "|---|---|---|"]
    lines += [f"| {k} | {v['mAP@0.5']:.3f} | {v['mAP@[.5:.95]']:.3f} |" for k, v in rows.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings))
    except TrainingError as error:
        sys.exit(f"error: {error}")
