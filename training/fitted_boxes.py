"""The file of default boxes that `training fit` writes and `training train` takes.

preset, input_size, resize   what the boxes are for
fingerprint                  of the data that they were fitted to
box_shapes                   width and height of each, 0 to 1, for each feature map
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from training import run_folder
from training.errors import TrainingError
from training.network.default_boxes import box_shapes
from training.network.presets import PRESETS, BoxShapes, Preset


def write_fitted(path: Path, preset: Preset, fingerprint: str) -> None:
    """Write the default boxes of a preset, which were fitted to data of this fingerprint."""
    document = {
        "preset": preset.name,
        "input_size": preset.input_size,
        "resize": preset.resize,
        "fingerprint": fingerprint,
        "box_shapes": box_shapes(preset),
    }
    run_folder.write_json(path, document)


def load_fitted(path: Path, preset: Preset) -> Preset:
    """The preset with the default boxes of a file that `training fit` wrote.

    Raises:
        TrainingError: not such a file, or one for another preset.
    """
    document = run_folder.read_json(path, "the file that `training fit --output` wrote")
    try:
        shapes = _shapes(document)
        name = document["preset"]
        # A file of before there were other inputs is for the preset's own.
        size = document.get("input_size", PRESETS[name].input_size)
        resize = document.get("resize", "stretch")
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path}: no default boxes in it ({error!r}); write it with `training fit`"
        ) from None
    if name != preset.name or len(shapes) != len(preset.feature_maps):
        raise TrainingError(
            f"{path}: for the preset {name} with {len(shapes)} feature maps, not for "
            f"{preset.name}: give `training fit` the --preset of `training train`"
        )
    if (size, resize) != (preset.input_size, preset.resize):
        raise TrainingError(
            f"{path}: for --input-size {size} --resize {resize}, not for {preset.input_size} and "
            f"{preset.resize}: run `training fit` with the options of `training train`"
        )
    return replace(preset, box_shapes=shapes)


def _shapes(document: dict[str, Any]) -> BoxShapes:
    shapes = tuple(
        tuple((float(w), float(h)) for w, h in pairs) for pairs in document["box_shapes"]
    )
    sides = [side for pairs in shapes for pair in pairs for side in pair]
    if not sides or not all(math.isfinite(side) and side > 0 for side in sides):
        raise ValueError("sides must be more than 0")
    return shapes
