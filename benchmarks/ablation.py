"""What each ingredient of a preset's training gives, one change at a time.

    python benchmarks/ablation.py data/records --default-boxes data/boxes.json \\
        --pretrained runs/smears --output runs/ablation
    python benchmarks/ablation.py data/photos --preset ssd_lite0 --epochs 20 --output runs/photos

One seed and a shortened schedule, the same for all: a row shows whether an ingredient matters, not
the mAP to expect. It can be interrupted and started again: each row is a run folder of
`training train`. Two processes with another `--only` each may share the work.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import keras
import tyro

from training import train
from training.errors import TrainingError
from training.fitted_boxes import load_fitted
from training.network.presets import SSD_COMPACT, SSD_LITE0, Preset, set_input_size
from training.settings import TrainSettings

Changes = tuple[dict[str, Any], dict[str, Any]]  # fields of the preset, fields of the settings
COMPACT: dict[str, Changes] = {
    "as shipped": ({}, {}),
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
PAPERS_BOXES = {"matching": "overlap", "box_shapes": None, "aspect_ratios": ((2.0,),) * 5}
LITE0: dict[str, Changes] = {
    "as the preset has it": ({}, {}),
    "nothing frozen": ({"freeze": 0}, {"freeze": 0}),
    "frozen to stride 16": ({"freeze": 16}, {"freeze": 16}),
    "the paper's matching, four boxes a cell": (PAPERS_BOXES, {}),
    "3:1 hard negative mining": ({"class_loss": "mining"}, {}),
    "smooth L1 loss for boxes": ({"box_loss": "smooth_l1", "box_weight": 1.0}, {}),
    "letterbox": ({"resize": "letterbox"}, {"resize": "letterbox"}),
    "input 416x416": ({}, {"input_size": 416}),
    "no photometric distortion": ({"photometric": False}, {"photometric": False}),
    "no zoom-out": ({"zoom_out": 1.0}, {}),
    "no crops": ({"smallest_crop": 1.0}, {}),
    "random weights": ({"freeze": 0}, {"freeze": 0, "pretrained": "none"}),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Train a preset once for each ingredient left out or changed, and print a table."""

    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote, with the splits train and val."""
    output: Path
    """Folder for the runs and for ablation.json."""
    preset: Literal["ssd_compact", "ssd_lite0"] = "ssd_compact"
    """The preset that is changed."""
    default_boxes: Path | None = None
    """File that `training fit` wrote, for ssd_compact."""
    pretrained: str | None = None
    """Run folder of the pretraining."""
    epochs: int = 15
    """Passes over the training data, the same for each row."""
    seed: int = 0
    """The same for each row."""
    only: tuple[str, ...] = ()
    """Words in the names of the rows to train; none given: all."""


def main(settings: Settings) -> None:
    for name, changes in _rows(settings).items():
        if not settings.only or any(word in name for word in settings.only):
            keras.backend.clear_session()
            print(f"\n{name}")
            train.train_preset(*_recipe(settings, name, *changes))
    print(_table(settings))


def _rows(settings: Settings) -> dict[str, Changes]:
    return COMPACT if settings.preset == "ssd_compact" else LITE0


def _recipe(
    settings: Settings, name: str, changes: dict[str, Any], options: dict[str, Any]
) -> tuple[TrainSettings, Preset]:
    common = TrainSettings(
        settings.records,
        _folder(settings, name),
        preset=settings.preset,
        epochs=settings.epochs,
        seed=settings.seed,
        pretrained=settings.pretrained,
        evaluate_every=settings.epochs,
        checkpoint_every=settings.epochs,
    )
    preset = SSD_LITE0
    if settings.preset == "ssd_compact":
        common = dataclasses.replace(common, precision="bfloat16", vertical_flip=True)
        preset = dataclasses.replace(SSD_COMPACT, photometric=False)
        if settings.default_boxes:
            preset = load_fitted(settings.default_boxes, preset)
    common = dataclasses.replace(common, **options)
    preset = dataclasses.replace(preset, **changes)
    return common, set_input_size(preset, common.input_size or preset.input_size)


def _folder(settings: Settings, name: str) -> Path:
    return settings.output / "".join(c if c.isalnum() else "-" for c in name.lower())


def _table(settings: Settings) -> str:
    """Markdown, and the same as JSON beside the runs."""
    rows = {}
    for name in _rows(settings):
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
