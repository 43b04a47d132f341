"""What every command says of the annotated folders that it reads."""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from training.data.formats.fitting import Resized

Format = Literal["auto", "voc", "yolo", "coco", "csv", "tfrecord"]


@dataclasses.dataclass(frozen=True)
class FolderSettings:
    """The folders, and how they become one set of images."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """One folder, or several that become one set of images."""
    _: dataclasses.KW_ONLY
    labels: tuple[str, ...] = ()
    """Class names in the order of their ids; none given: those found, most frequent first."""
    rename: tuple[str, ...] = ()
    """old=new: other names for classes, several may get the same; old= drops the class."""
    val: float = 0.2
    """Share of a folder's images, 0 to 1, that is held out as val where it names no val."""
    seed: int = 0
    """Another seed holds out other images."""
    resplit: bool = False
    """Hold out by ratio even where a folder has its own val."""
    format: Format = "auto"
    """Format of all the folders; auto: what the layout of each tells."""
    resized: Resized = "unknown"
    """Where a photo has another size than its annotation says: yes, it was resized since, so boxes
    are scaled; no, that size is wrong and boxes fit as they are; unknown leaves the photo out."""
    frozen: tuple[Path, ...] = ()
    """A test set that training never sees, as folders of photos or COCO JSON files: an image that
    is a copy of one of them, also resized or slightly cut, is left out of all splits but `test`."""
    group_by: str = ""
    """Regular expression that is looked for in an image's name, then in its path: images where it
    finds the same are held out together, as frames of one video or photos of one patient should
    be. 'clip\\d+', or with parentheses around what counts: '(.+)_\\d+'."""
