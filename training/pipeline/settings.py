"""What the one command is told."""

import dataclasses
from pathlib import Path

from training.data.folder_settings import FolderSettings
from training.settings import RecipeSettings


@dataclasses.dataclass(frozen=True)
class RunSettings(FolderSettings, RecipeSettings):
    """Do everything: check photos, write records, fit default boxes where that helps, train,
    evaluate, export in float32 and int8. The same command again goes on where it stopped. With
    --config FILE, what is not given here is as in that JSON file: settings by their names, such as
    {"epochs": 60}, or the run.json of a run, of which the photos and folders are left out."""

    output: Path
    """Folder for all of it; what each step needs next lies in it."""
    _: dataclasses.KW_ONLY
    tile: int = 0
    """Pixels: train and measure on the tiles that `client detect --tile` cuts larger photos into;
    0 is on whole photos."""
    seed: int = 0
    """Fixes initial weights, order and augmentation. The photos that are held out as val stay."""
