"""Photos that a model is least sure of, kept as proposals with the boxes that it found.

How unsure it is: of each detection (1 - |2p - 1|)^2, p being its score: the margin between object
and none, "1-vs-2" of Brust et al., "Active Learning for Deep Object Detection" (VISAPP 2019); of a
photo their sum, the aggregation that was best there and that `training select` takes. A photo in
which nothing was found has no margin, and is never kept.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from client import drawing, images
from client.detection import Result
from client.inbox.inbox import SAMPLE, Inbox, InboxError
from client.inbox.photo import choose_file, image_id
from client.inbox.source import tell_source
from client.inbox.voc_xml import detected_object, voc_xml

DRAWN = 0.5  # score from which what was found is proposed as a box
SERVICE = "service"  # who proposes


def measure_uncertainty(result: Result) -> float:
    """How unsure a model is of a photo: each detection with a score of 0.5 adds 1, others less."""
    return sum((1 - abs(2 * found.score - 1)) ** 2 for found in result.detections)


@dataclass(frozen=True)
class Samples:
    """Keeps photos in an inbox, at most so many: a surer one gives way to one that is less sure."""

    inbox: Inbox
    most: int

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
        try:
            with self.inbox.lock():
                if self.inbox.holds(image_id(photo)):  # others were quicker
                    return False
                self.inbox.propose(name, file, xml)
                for surer in self.inbox.samples()[: -self.most]:
                    self.inbox.proposals.remove(surer)
        except OSError as error:
            raise InboxError(f"{self.inbox.folder}: no photo can be kept: {error}") from error
        return True

    def _has_place(self, unsure: int) -> bool:
        kept = self.inbox.samples()
        return unsure > 0 and (len(kept) < self.most or unsure > uncertainty_of(kept[0]))

    def _check_labels(self, result: Result) -> None:
        """Raise InboxError where the inbox is of another task."""
        file = self.inbox.folder / "labels.txt"
        try:
            text = file.read_text(encoding="utf-8") if file.exists() else None
        except (OSError, UnicodeDecodeError) as error:
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
