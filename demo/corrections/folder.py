"""Corrections that people make on the page, in an inbox (`client.inbox`) whose accepted part
`training` reads.

What somebody saves is a proposal, unless that person may accept it, too. Nothing is overwritten by
somebody else: proposals of one photo lie beside each other, and boxes count only in the place of
those that were seen. What counted before lies in the inbox's history.

Raises: `CorrectionError`, with a sentence for the person who made the correction.
"""

import errno
import hashlib
import logging
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from client import drawing
from client.errors import InvalidImage
from client.inbox.files import place_file
from client.inbox.inbox import Inbox, InboxError, InboxFullError
from client.inbox.photo import Photo, choose_file, image_id
from client.inbox.source import tell_source, tell_time
from demo.corrections.annotations import (
    Annotation,
    digest_of,
    read_annotation,
    write_annotation,
)
from demo.corrections.boxes import CorrectedBox, CorrectionError, check_boxes, read_labels
from demo.corrections.people import OWNER, Person

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draft:
    """What somebody has open, and has seen: what is another one since is somebody else's work.

    Attributes:
        boxes: that the person proposed before, else those that count; None: there are none.
        accepted: the digest of those that count, empty where none do; None: whatever they are.
        proposal: the name of the person's own proposal, if there is one.
        digest: of that.
    """

    boxes: tuple[CorrectedBox, ...] | None = None
    accepted: str | None = None
    proposal: str = ""
    digest: str = ""


class Saved(NamedTuple):
    """What became of boxes: how many they are, whether they count, and what is open now.

    "beside": they are a proposal, for somebody accepted others meanwhile.
    """

    boxes: int
    state: Literal["accepted", "proposed", "beside"]
    draft: Draft


class Corrections:
    """A folder of corrected photos. Threads may share it, and processes the folder.

    Args:
        folder: made if it is not there.
        served: the served model's classes in their order. Where the folder has no labels.txt yet,
            they are written there; where it has one, that counts, and may name more classes.
        limit: megabytes that the folder's files may have together.

    Raises:
        CorrectionError: the folder cannot be written, or nobody says what the classes are.
    """

    def __init__(self, folder: Path, served: Sequence[str] = (), limit: int = 1000) -> None:
        self.folder = folder
        try:
            self.inbox = Inbox(folder, limit)
            self.labels = read_labels(folder / "labels.txt", served)
            text = "".join(f"{label}\n" for label in self.labels)
            place_file(folder / "labels.txt", text.encode())
        except InboxError as error:
            raise CorrectionError(str(error)) from error
        except OSError as error:
            raise CorrectionError(f"{folder}: no folder for corrections: {error}") from error

    def open(self, photo: bytes, by: Person = OWNER) -> Draft:
        """What there is of this very file for somebody to start from."""
        name = image_id(photo)
        accepted = read_annotation(self.inbox.accepted.annotation(name))
        digest = accepted.digest if accepted else self.digest_of_accepted(name)
        if own := self._find_own(name, by):
            return Draft(own.boxes, digest, own.name, own.digest)
        return Draft(accepted.boxes if accepted else None, digest)

    def load(self, photo: bytes) -> tuple[CorrectedBox, ...] | None:
        """The boxes that count for this very file; None where none do."""
        accepted = read_annotation(self.inbox.accepted.annotation(image_id(photo)))
        return accepted.boxes if accepted else None

    def save(
        self,
        photo: bytes,
        boxes: Any,
        by: Person = OWNER,
        draft: Draft = Draft(),
        version: str = "",
    ) -> Saved:
        """Store a photo with its boxes, on the disk for good when this returns.

        Args:
            photo: the bytes of an encoded image file.
            boxes: as a browser sent them, and so anything at all. Wanted: a list, empty where
                nothing is on the photo, of {"label", "x1", "y1", "x2", "y2", "difficult"}.
            by: who saves.
            draft: what that person had open.
            version: what answered for the photo.

        Raises:
            CorrectionError: this photo or a box cannot be stored; everything is as it was.
        """
        try:
            picture_bgr = drawing.read(photo)
        except InvalidImage as error:
            why = str(error).removeprefix("the image: ")
            raise CorrectionError(f"This photo {why}.") from error
        height, width = picture_bgr.shape[:2]
        checked = check_boxes(boxes, self.labels, width, height)
        file = choose_file(photo, picture_bgr)
        made = Annotation(image_id(photo), width, height, checked, tell_source(by.name, version))
        with self.storing(made.name):
            current = self.digest_of_accepted(made.name)
            if not by.may_accept_own:
                return self._propose(made, file, by, draft)
            if draft.accepted not in (None, current):
                return self._propose(made, file, by, draft)._replace(state="beside")
            return self._accept_own(made, file, by, draft)

    def place_accepted(self, made: Annotation, photo: Photo | Path, by: Person) -> str:
        """Make boxes count in the place of others, and return their digest. The lock must be held.

        Raises:
            OSError: a file cannot be written; what counted before counts.
        """
        current = self.inbox.accepted.annotation(made.name)
        source = {**made.source, "accepted_by": by.name, "accepted": tell_time()}
        xml = write_annotation(replace(made, source=source), photo.suffix)
        if current.exists():
            self.inbox.retire(made.name, "replaced", current.read_bytes())
        self.inbox.accepted.store(made.name, photo, xml)
        self._forget_samples(made.name)
        return digest_of(xml)

    def digest_of_accepted(self, name: str) -> str:
        """What tells the boxes that count from others; empty where none do."""
        return _digest_of_file(self.inbox.accepted.annotation(name))

    @contextmanager
    def storing(self, name: str) -> Iterator[None]:
        """Hold the lock, and make sentences of what goes wrong."""
        try:
            with self.inbox.lock():
                yield
        except InboxFullError as error:
            raise CorrectionError(
                f"The server keeps {self.inbox.limit} MB of corrections, and that is full. "
                "Please tell whoever runs it."
            ) from error
        except OSError as error:
            logger.error("correction of %s: %s", name, error)
            why = "its disk is full" if error.errno in FULL_DISK else "it cannot write the file"
            raise CorrectionError(f"The server could not store this: {why}.") from error

    def _accept_own(self, made: Annotation, photo: Photo, by: Person, draft: Draft) -> Saved:
        if not self.inbox.accepted.annotation(made.name).exists():
            self.inbox.make_room(photo, b"")
        accepted = self.place_accepted(made, photo, by)
        if draft.proposal:
            self.inbox.proposals.remove(draft.proposal)
        return Saved(len(made.boxes), "accepted", Draft(made.boxes, accepted))

    def _propose(self, made: Annotation, photo: Photo, by: Person, draft: Draft) -> Saved:
        own = self.inbox.proposals.annotation(draft.proposal)
        name = draft.proposal
        if not name or _digest_of_file(own) != draft.digest:
            name = f"{made.name}-{author_tag(by)}{secrets.token_hex(3)}"
        xml = write_annotation(replace(made, name=name), photo.suffix)
        self.inbox.propose(name, photo, xml)
        self._forget_samples(made.name)
        opened = replace(draft, boxes=made.boxes, proposal=name, digest=digest_of(xml))
        return Saved(len(made.boxes), "proposed", opened)

    def _find_own(self, name: str, by: Person) -> Annotation | None:
        """The newest proposal of somebody for a photo."""
        names = self.inbox.proposals.names(f"{name}-{author_tag(by)}")
        found = [read_annotation(self.inbox.proposals.annotation(each)) for each in names]
        return max(filter(None, found), key=lambda each: each.source.get("time", ""), default=None)

    def _forget_samples(self, photo: str) -> None:
        """A model's boxes have done their part when a person has made others."""
        for name in self.inbox.samples(photo):
            self.inbox.proposals.remove(name)


def author_tag(by: Person) -> str:
    """What the names of somebody's proposals have in common, whichever program wrote them last."""
    return hashlib.sha256(by.name.encode()).hexdigest()[:6]


def _digest_of_file(path: Path) -> str:
    return digest_of(path.read_bytes()) if path.is_file() else ""
