"""The folders of an inbox, and what has room in them.

    FOLDER/JPEGImages/, Annotations/             photos whose boxes count: what `training` reads
    FOLDER/proposals/JPEGImages/, Annotations/   what waits for somebody to accept it
    FOLDER/history/NAME.TIME.WHAT.xml            boxes that were accepted, refused or replaced
    FOLDER/labels.txt                            the classes there are, one a line

Both pairs are Pascal VOC. NAME is the photo's id; of a proposal with a token of its own behind it,
ID-3f9c1a, so that those of several people for one photo lie beside each other. What a model is
unsure of and nobody has looked at is called ID-unsure003410: how unsure, in thousandths.

A photo is placed before its annotation and removed after it, and what a kill leaves in between is
swept away later.
"""

import os
import re
import secrets
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from client.errors import DetectorError
from client.inbox.files import link_file, lock_file, place_file
from client.inbox.photo import ID_LENGTH, SUFFIXES, Photo

MEGABYTE = 1_000_000
STALE = 3600  # seconds after which what is not whole is not being written any more
OURS = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}(-\w+)?")
SAMPLE = "unsure"
SAMPLES = re.compile(rf"\w+-{SAMPLE}\d{{6}}")


class InboxError(DetectorError):
    """The inbox cannot be used; the text says why."""


class InboxFullError(InboxError):
    """It has no room, and nothing in it may give way."""


@dataclass(frozen=True)
class VocFolder:
    """A folder of photos and their annotations, known by a name that both have."""

    path: Path

    def annotation(self, name: str) -> Path:
        """Where the annotation of this name is."""
        return self.path / "Annotations" / f"{name}.xml"

    def image(self, name: str) -> Path | None:
        """The photo of this name; None where there is none."""
        images = (self.path / "JPEGImages" / f"{name}{suffix}" for suffix in SUFFIXES.values())
        return next(filter(Path.exists, images), None)

    def names(self, photo: str = "") -> list[str]:
        """The annotations that there are, of one photo or of all."""
        return sorted(path.stem for path in (self.path / "Annotations").glob(f"{photo}*.xml"))

    def store(self, name: str, photo: Photo | Path, xml: bytes) -> None:
        """Place a photo and its annotation, or replace the annotation.

        Args:
            name: of both.
            photo: what is to be kept, or a file that is to have a second name.
            xml: the annotation.

        Raises:
            OSError: it cannot be written; all is as it was.
        """
        suffix = photo.suffix
        image, annotation = self.path / "JPEGImages" / f"{name}{suffix}", self.annotation(name)
        is_new = not annotation.exists()
        try:
            if isinstance(photo, Path):
                link_file(photo, image)
            elif not image.exists():  # else it has the same content: its name is made of that
                place_file(image, photo.content)
            place_file(annotation, xml)
        except OSError:
            if is_new:
                self.remove(name)
            raise

    def remove(self, name: str) -> None:
        """Remove an annotation and its photo."""
        self.annotation(name).unlink(missing_ok=True)
        if image := self.image(name):
            image.unlink(missing_ok=True)

    def make(self) -> None:
        """Make the folders, and remove what a killed program left half in them.

        Raises:
            OSError: they cannot be made.
        """
        for part in ("JPEGImages", "Annotations"):
            (self.path / part).mkdir(parents=True, exist_ok=True)
        for path in self.path.glob("*/*"):
            alone = path.parent.name == "JPEGImages" and not self.annotation(path.stem).exists()
            half = path.suffix == ".partial" or (alone and OURS.fullmatch(path.stem))
            if half and _read_status(path).st_mtime < time.time() - STALE:
                path.unlink(missing_ok=True)


class Inbox:
    """What is accepted, and what is proposed. Threads and processes may share the folder.

    Args:
        folder: made if it is not there.
        limit: megabytes that all of its files may have together.

    Raises:
        InboxError: it cannot be written.
    """

    def __init__(self, folder: Path, limit: int = 1000) -> None:
        self.folder = folder
        self.limit = limit
        self.accepted = VocFolder(folder)
        self.proposals = VocFolder(folder / "proposals")
        self.history = folder / "history"
        try:
            self.accepted.make()
            self.proposals.make()
            self.history.mkdir(exist_ok=True)
            with self.lock():
                pass  # else the first to come would find out that nothing can be written
        except OSError as error:
            raise InboxError(f"{folder}: no folder for corrections: {error}") from error

    def lock(self) -> AbstractContextManager[None]:
        """Keep others from changing what is accepted and proposed."""
        return lock_file(self.folder / ".lock")

    def holds(self, photo: str) -> bool:
        """Whether a photo, by its id, is accepted or proposed, or has been refused."""
        known = self.accepted.names(photo) or self.proposals.names(photo)
        return bool(known) or any(self.history.glob(f"{photo}*.xml"))

    def samples(self, photo: str = "") -> list[str]:
        """The proposals that a model made and nobody has looked at, the surest first."""
        names = filter(SAMPLES.fullmatch, self.proposals.names(photo))
        return sorted(names, key=lambda name: name.partition("-")[2])

    def propose(self, name: str, photo: Photo | Path, xml: bytes) -> None:
        """Store a proposal. The lock must be held.

        Raises:
            OSError: it cannot be written; all is as it was.
            InboxFullError: there is no room.
        """
        self.make_room(photo, xml)
        self.proposals.store(name, photo, xml)

    def make_room(self, photo: Photo | Path, xml: bytes) -> None:
        """Let samples give way, the surest first, until there is room; nothing else ever does.

        Raises:
            InboxFullError: that is not enough.
        """
        size = len(xml) + (len(photo.content) if isinstance(photo, Photo) else 0)
        giving_way = iter(self.samples())
        while self._measure() + size > self.limit * MEGABYTE:
            if (name := next(giving_way, None)) is None:
                raise InboxFullError(
                    f"{self.folder}: the {self.limit} MB that it may have are full"
                )
            self.proposals.remove(name)

    def retire(self, name: str, what: str, xml: bytes) -> None:
        """Write boxes that no longer count, or wait no longer, into the history."""
        at = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        place_file(self.history / f"{name}.{at}.{what}.xml", xml)

    def _measure(self) -> int:
        """Bytes of all files, of those with two names once."""
        found = (_read_status(path) for path in self.folder.rglob("*.*"))
        return sum({(each.st_dev, each.st_ino): each.st_size for each in found}.values())


def make_token() -> str:
    """What tells a person's proposal from others of the photo."""
    return secrets.token_hex(3)


def _read_status(path: Path) -> os.stat_result:
    """The file's; of one that another process has just given its name, or removed, zeros."""
    try:
        return path.stat()
    except FileNotFoundError:
        return os.stat_result((0,) * 10)
