"""Photos that a model is least sure of, kept as proposals with the boxes that it found.

How unsure it is: of each detection (1 - |2p - 1|)^2, p being its score: the margin between object
and none, "1-vs-2" of Brust et al., "Active Learning for Deep Object Detection" (VISAPP 2019); of a
photo their sum, the aggregation that was best there and that `training select` takes. A photo in
which nothing was found has no margin, and is never kept.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import PurePosixPath

from client import drawing, images
from client.detection import Result
from client.inbox.inbox import SAMPLE, Inbox, InboxError
from client.inbox.photo import choose_file, image_id
from client.inbox.source import tell_source
from client.inbox.voc_xml import detected_object, voc_xml

DRAWN = 0.5  # score from which what was found is proposed as a box
SERVICE = "service"  # who proposes
LABELS = PurePosixPath("labels.txt")
BAR_SECONDS = 1.0  # between two looks at what is kept: in a bucket each costs a request


def measure_uncertainty(result: Result) -> float:
    """How unsure a model is of a photo: each detection with a score of 0.5 adds 1, others less."""
    return sum((1 - abs(2 * found.score - 1)) ** 2 for found in result.detections)


class Samples:
    """Keeps photos in an inbox, at most so many: a surer one gives way to one that is less sure."""

    def __init__(self, inbox: Inbox, most: int) -> None:
        self.inbox = inbox
        self.most = most
        self._bar, self._looked = 0, -BAR_SECONDS

    def offer(self, image: images.Image, result: Result, version: Callable[[], str]) -> bool:
        """Keep a photo, if it is one of the least sure and not in the inbox yet; say if it was.

        Args:
            image: a path, or the bytes of an encoded file.
            result: what was found in it.
            version: says which version answered; asked only for what is kept.

        Raises:
            InboxError: it cannot be kept: it is of another task, or there is no room.
            InvalidImage: it cannot be read, or not be decoded here.
        """
        try:
            return self._offer(image, result, version)
        except OSError as error:
            raise InboxError(f"{self.inbox.address}: no photo can be kept: {error}") from error

    def _offer(self, image: images.Image, result: Result, version: Callable[[], str]) -> bool:
        unsure = round(1000 * measure_uncertainty(result))
        if not self._has_place(unsure):
            return False
        photo = images.encoded(image, images.LARGEST_LIMIT)
        if self.inbox.holds(image_id(photo)):
            return False
        self._check_labels(result)
        file = choose_file(photo, drawing.read(photo))
        name = f"{image_id(photo)}-{SAMPLE}{unsure:06}"
        xml = _annotate(f"{name}{file.suffix}", result, version())
        with self.inbox.lock():
            if self.inbox.holds(image_id(photo)):  # others were quicker
                return False
            self.inbox.propose(name, file, xml)
            for surer in self.inbox.samples()[: -self.most]:
                self.inbox.proposals.remove(surer)
        self._looked = -BAR_SECONDS
        return True

    def _has_place(self, unsure: int) -> bool:
        """Whether a photo would stay, by what was kept a moment ago."""
        if time.monotonic() - self._looked > BAR_SECONDS:
            kept = self.inbox.samples()
            self._bar = uncertainty_of(kept[0]) if len(kept) >= self.most else 0
            self._looked = time.monotonic()
        return unsure > self._bar

    def _check_labels(self, result: Result) -> None:
        """Raise InboxError where the inbox is of another task."""
        file = f"{self.inbox.address}/{LABELS}"
        content = self.inbox.storage.find(LABELS)
        try:
            text = None if content is None else content.decode()
        except UnicodeDecodeError as error:
            raise InboxError(f"{file}: {error}") from error
        known = {line.strip() for line in (text or "").splitlines()}
        unknown = [label for label in result.counts() if label not in known]
        if text is not None and unknown:
            raise InboxError(
                f"{file} does not name {', '.join(unknown)}, which the model answered: give the "
                "inbox of this model's task, or add the line"
            )


def uncertainty_of(name: str) -> int:
    """Of a sample, by its name, in thousandths."""
    return int(name.partition(f"-{SAMPLE}")[2])


def _annotate(filename: str, result: Result, version: str) -> bytes:
    found = asdict(result)
    drawn = (each for each in found["detections"] if each["score"] >= DRAWN)
    uncertainty = f"{measure_uncertainty(result):.4f}"
    source = tell_source(SERVICE, version, uncertainty=uncertainty)
    objects = (detected_object(each, found) for each in drawn)
    return voc_xml(filename, result.width, result.height, objects, source=source, segmented=0)
