"""The folders of an inbox, and what has room in them. `client.inbox.storage` is where they lie.

    INBOX/JPEGImages/, Annotations/              photos whose boxes count: what `training` reads
    INBOX/proposals/JPEGImages/, Annotations/    what waits for somebody to accept it
    INBOX/history/NAME.TIME.WHAT.xml             boxes that were accepted, refused or replaced
    INBOX/labels.txt                             the classes there are, one a line

Both pairs are Pascal VOC. NAME is the photo's id; of a proposal with a token of its own behind it,
ID-3f9c1a, so that those of several people for one photo lie beside each other. What a model is
unsure of and nobody has looked at is called ID-unsure003410: how unsure, in thousandths.

A photo is placed before its annotation and removed after it, and what a kill leaves in between is
swept away later.
"""

import re
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from client.errors import DetectorError
from client.inbox.address import open_storage
from client.inbox.photo import ID_LENGTH, SUFFIXES, Photo
from client.inbox.storage import STALE, Storage

MEGABYTE = 1_000_000
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

    storage: Storage
    path: PurePosixPath

    @property
    def images(self) -> PurePosixPath:
        """The folder of the photos."""
        return self.path / "JPEGImages"

    @property
    def annotations(self) -> PurePosixPath:
        """The folder of the annotations."""
        return self.path / "Annotations"

    def annotation(self, name: str) -> PurePosixPath:
        """Where the annotation of this name is."""
        return self.annotations / f"{name}.xml"

    def image(self, name: str) -> PurePosixPath | None:
        """The photo of this name; None where there is none."""
        found = (each.path for each in self.storage.entries(self.images, f"{name}."))
        suffixes = SUFFIXES.values()
        return next((p for p in found if p.stem == name and p.suffix in suffixes), None)

    def times(self, photo: str = "") -> dict[str, float]:
        """The names of the annotations that there are, of one photo or of all, and their times."""
        found = sorted(self.storage.entries(self.annotations, photo))
        return {each.path.stem: each.modified for each in found if each.path.suffix == ".xml"}

    def names(self, photo: str = "") -> list[str]:
        """The annotations that there are, of one photo or of all."""
        return list(self.times(photo))

    def store(self, name: str, photo: Photo | PurePosixPath, xml: bytes) -> None:
        """Place a photo and its annotation, or replace the annotation.

        Args:
            name: of both.
            photo: what is to be kept, or a file of the inbox that is to have a second name.
            xml: the annotation.

        Raises:
            OSError: it cannot be written; all is as it was.
        """
        image, annotation = self.images / f"{name}{photo.suffix}", self.annotation(name)
        is_new = self.storage.find(annotation) is None
        try:
            if isinstance(photo, PurePosixPath):
                self.storage.copy(photo, image)
            elif self.image(name) is None:  # else it has the same content: its name is made of that
                self.storage.place(image, photo.content)
            self.storage.place(annotation, xml)
        except OSError:
            if is_new:
                with suppress(OSError):  # then it is swept away later
                    self.remove(name)
            raise

    def remove(self, name: str) -> None:
        """Remove an annotation and its photo."""
        self.storage.remove(self.annotation(name))
        if image := self.image(name):
            self.storage.remove(image)

    def sweep(self) -> None:
        """Remove photos that a killed program left without an annotation. The lock must be held.

        Raises:
            OSError: they cannot be removed.
        """
        annotated = self.times()
        for path, modified, _ in self.storage.entries(self.images):
            is_alone = path.stem not in annotated and OURS.fullmatch(path.stem)
            if is_alone and modified < time.time() - STALE:
                self.storage.remove(path)


class Inbox:
    """What is accepted, and what is proposed. Threads, processes and machines may share it.

    Args:
        address: of a folder, made if it is not there, or of a bucket or a part of it.
        limit: megabytes that all of its files may have together.

    Raises:
        InboxError: it cannot be written.
        InvalidParameter: the address is malformed, or the package for buckets is missing.
    """

    def __init__(self, address: str | Path, limit: int = 1000) -> None:
        self.storage = open_storage(address)
        self.address = self.storage.address
        self.limit = limit
        self.accepted = VocFolder(self.storage, PurePosixPath())
        self.proposals = VocFolder(self.storage, PurePosixPath("proposals"))
        self.history = PurePosixPath("history")
        parts = (self.accepted, self.proposals)
        folders = [folder for each in parts for folder in (each.images, each.annotations)]
        try:
            self.storage.make([*folders, self.history])
            with self.lock():  # else the first to come would find out that nothing can be written
                for each in parts:
                    each.sweep()
        except OSError as error:
            raise InboxError(f"{address}: no corrections can be kept: {error}") from error

    def lock(self) -> AbstractContextManager[None]:
        """Keep others from changing what is accepted and proposed."""
        return self.storage.lock()

    def holds(self, photo: str) -> bool:
        """Whether a photo, by its id, is accepted or proposed, or has been refused."""
        known = self.accepted.names(photo) or self.proposals.names(photo)
        return bool(known or self.storage.entries(self.history, photo))

    def samples(self, photo: str = "") -> list[str]:
        """The proposals that a model made and nobody has looked at, the surest first."""
        return sort_samples(self.proposals.times(photo))

    def propose(self, name: str, photo: Photo | PurePosixPath, xml: bytes) -> None:
        """Store a proposal. The lock must be held.

        Raises:
            OSError: it cannot be written; all is as it was.
            InboxFullError: there is no room.
        """
        self.make_room(photo, xml)
        self.proposals.store(name, photo, xml)

    def make_room(self, photo: Photo | PurePosixPath, xml: bytes) -> None:
        """Let samples give way, the surest first, until there is room; nothing else ever does.

        Raises:
            InboxFullError: that is not enough.
        """
        size = len(xml) + (len(photo.content) if isinstance(photo, Photo) else 0)
        giving_way = iter(self.samples())
        while self.storage.measure() + size > self.limit * MEGABYTE:
            if (name := next(giving_way, None)) is None:
                raise InboxFullError(
                    f"{self.address}: the {self.limit} MB that it may have are full"
                )
            self.proposals.remove(name)

    def retire(self, name: str, what: str, xml: bytes) -> None:
        """Write boxes that no longer count, or wait no longer, into the history."""
        at = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        self.storage.place(self.history / f"{name}.{at}.{what}.xml", xml)


def sort_samples(names: Iterable[str]) -> list[str]:
    """Those of some proposals that a model made and nobody has looked at, the surest first."""
    return sorted(filter(SAMPLES.fullmatch, names), key=lambda name: name.partition("-")[2])
