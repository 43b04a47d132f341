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
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from client import drawing
from client.errors import BucketError, InvalidImage
from client.inbox.inbox import Inbox, InboxError, InboxFullError
from client.inbox.photo import Photo, choose_file, image_id
from client.inbox.samples import LABELS
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
    """An inbox of corrected photos. Threads may share it, processes and machines what it lies in.

    Args:
        address: of a folder, made if it is not there, or of a bucket or a part of it.
        served: the served model's classes in their order. Where the inbox has no labels.txt yet,
            they are written there; where it has one, that counts, and may name more classes.
        limit: megabytes that the inbox's files may have together.

    Raises:
        CorrectionError: the inbox cannot be written, or nobody says what the classes are.
        InvalidParameter: as `Inbox` does.
    """

    def __init__(self, address: str | Path, served: Sequence[str] = (), limit: int = 1000) -> None:
        try:
            self.inbox = Inbox(address, limit)
            storage = self.inbox.storage
            with self.inbox.lock():
                found = storage.find(LABELS)
                self.labels = read_labels(f"{storage.address}/{LABELS}", found, served)
                storage.place(LABELS, "".join(f"{label}\n" for label in self.labels).encode())
        except InboxError as error:
            raise CorrectionError(str(error)) from error
        except OSError as error:
            raise CorrectionError(f"{address}: no corrections can be kept: {error}") from error

    def open(self, photo: bytes, by: Person = OWNER) -> Draft:
        """What there is of this very file for somebody to start from.

        Raises:
            CorrectionError: that cannot be read.
        """
        name = image_id(photo)
        with self.explaining(name):
            accepted = self.read_accepted(name)
            digest = accepted.digest if accepted else self.digest_of_accepted(name)
            if own := self._find_own(name, by):
                return Draft(own.boxes, digest, own.name, own.digest)
            return Draft(accepted.boxes if accepted else None, digest)

    def load(self, photo: bytes) -> tuple[CorrectedBox, ...] | None:
        """The boxes that count for this very file; None where none do."""
        accepted = self.read_accepted(image_id(photo))
        return accepted.boxes if accepted else None

    def read_accepted(self, name: str) -> Annotation | None:
        """The boxes that count for a photo; None where none do."""
        return read_annotation(self.inbox.storage, self.inbox.accepted.annotation(name))

    def read_proposal(self, name: str) -> Annotation | None:
        """A proposal; None where it is gone."""
        return read_annotation(self.inbox.storage, self.inbox.proposals.annotation(name))

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

    def place_accepted(self, made: Annotation, photo: Photo | PurePosixPath, by: Person) -> str:
        """Make boxes count in the place of others, and return their digest. The lock must be held.

        Raises:
            OSError: a file cannot be written; what counted before counts.
        """
        current = self.inbox.accepted.annotation(made.name)
        source = {**made.source, "accepted_by": by.name, "accepted": tell_time()}
        xml = write_annotation(replace(made, source=source), photo.suffix)
        if before := self.inbox.storage.find(current):
            self.inbox.retire(made.name, "replaced", before)
        self.inbox.accepted.store(made.name, photo, xml)
        self._forget_samples(made.name)
        return digest_of(xml)

    def digest_of_accepted(self, name: str) -> str:
        """What tells the boxes that count from others; empty where none do."""
        return self._digest_of(self.inbox.accepted.annotation(name))

    @contextmanager
    def storing(self, name: str) -> Iterator[None]:
        """Hold the lock, and make sentences of what goes wrong."""
        with self.explaining(name), self.inbox.lock():
            yield

    @contextmanager
    def explaining(self, name: str) -> Iterator[None]:
        """Make sentences of what goes wrong with a photo's files."""
        try:
            yield
        except InboxFullError as error:
            raise CorrectionError(
                f"The server keeps {self.inbox.limit} MB of corrections, and that is full. "
                "Please tell whoever runs it."
            ) from error
        except BucketError as error:
            logger.error("correction of %s: %s", name, error)
            raise CorrectionError(
                "The server could not reach the place where it keeps corrections. Nothing that was "
                "saved is lost; try again in a moment, or tell whoever runs it."
            ) from error
        except OSError as error:
            logger.error("correction of %s: %s", name, error)
            why = "its disk is full" if error.errno in FULL_DISK else "it cannot write the file"
            raise CorrectionError(f"The server could not store this: {why}.") from error

    def _accept_own(self, made: Annotation, photo: Photo, by: Person, draft: Draft) -> Saved:
        if not self.digest_of_accepted(made.name):
            self.inbox.make_room(photo, b"")
        accepted = self.place_accepted(made, photo, by)
        if draft.proposal:
            self.inbox.proposals.remove(draft.proposal)
        return Saved(len(made.boxes), "accepted", Draft(made.boxes, accepted))

    def _propose(self, made: Annotation, photo: Photo, by: Person, draft: Draft) -> Saved:
        own = self.inbox.proposals.annotation(draft.proposal)
        name = draft.proposal
        if not name or self._digest_of(own) != draft.digest:
            name = f"{made.name}-{author_tag(by)}{secrets.token_hex(3)}"
        xml = write_annotation(replace(made, name=name), photo.suffix)
        self.inbox.propose(name, photo, xml)
        self._forget_samples(made.name)
        opened = replace(draft, boxes=made.boxes, proposal=name, digest=digest_of(xml))
        return Saved(len(made.boxes), "proposed", opened)

    def _find_own(self, name: str, by: Person) -> Annotation | None:
        """The newest proposal of somebody for a photo."""
        names = self.inbox.proposals.names(f"{name}-{author_tag(by)}")
        found = [self.read_proposal(each) for each in names]
        return max(filter(None, found), key=lambda each: each.source.get("time", ""), default=None)

    def _forget_samples(self, photo: str) -> None:
        """A model's boxes have done their part when a person has made others."""
        for name in self.inbox.samples(photo):
            self.inbox.proposals.remove(name)

    def _digest_of(self, path: PurePosixPath) -> str:
        """What tells a file from others; empty where there is none."""
        content = self.inbox.storage.find(path)
        return "" if content is None else digest_of(content)


def author_tag(by: Person) -> str:
    """What the names of somebody's proposals have in common, whichever program wrote them last."""
    return hashlib.sha256(by.name.encode()).hexdigest()[:6]
