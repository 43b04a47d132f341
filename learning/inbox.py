"""The inbox: a Pascal VOC folder, or a bucket, that people add to while a round is under way."""

import hashlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from learning.commands import ask_command
from learning.errors import LearningError

PARTS = ("Annotations", "JPEGImages")


def fetch_inbox(inbox: str, output: Path) -> Path:
    """The folder of an inbox: of one in a bucket a copy, in which only what is new is copied.

    Raises:
        LearningError: the bucket is away, or there is no inbox.
    """
    if ":/" not in inbox:
        return Path(inbox)
    folder = output / ".inbox"
    ask_command(("client", "fetch", inbox, str(folder), "--json"))
    return folder


def copy_inbox(inbox: Path, target: Path) -> dict[str, str]:
    """Copy what is annotated, and link the photos, whose names are made of their content.

    Returns:
        By the name of each photo, the beginning of the sha256 of its boxes and its file.

    Raises:
        LearningError: there is no such folder.
    """
    if not (inbox / PARTS[0]).is_dir():
        raise LearningError(
            f"--inbox {inbox}: expected a Pascal VOC folder with {' and '.join(PARTS)}, as "
            "`python app.py --corrections` makes it"
        )
    for part in PARTS:
        (target / part).mkdir(parents=True)
    # Annotations first: the page stores a photo before its boxes.
    annotations = sorted((inbox / "Annotations").glob("[!.]*.xml"))
    photos = {path.stem: path for path in sorted((inbox / "JPEGImages").glob("[!.]*"))}
    return {path.stem: _copy(path, photos.get(path.stem), target) for path in annotations}


def link_photos(inbox: Path, target: Path, names: Collection[str]) -> None:
    """Make another Pascal VOC folder, of these photos only."""
    for part in PARTS:
        (target / part).mkdir(parents=True)
        for path in (inbox / part).iterdir():
            if path.stem in names:
                _link(path, target / part / path.name)


def _copy(annotation: Path, photo: Path | None, target: Path) -> str:
    copied = Path(shutil.copy(annotation, target / "Annotations", follow_symlinks=False))
    content = copied.read_bytes()
    if photo:
        content += _link(photo, target / "JPEGImages" / photo.name).read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


def _link(source: Path, target: Path) -> Path:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system
        shutil.copy(source, target, follow_symlinks=False)
    return target
