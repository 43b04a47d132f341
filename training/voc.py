"""Reads a Pascal VOC folder.

In: DIRECTORY/Annotations/ID.xml, DIRECTORY/JPEGImages/ID.{jpg,jpeg,png,bmp} and
DIRECTORY/ImageSets/Main/SPLIT.txt, one image id a line; without those, all images are one split.
An image is found by its id, never by a path written in the XML, and XML entities are refused.

VOC counts pixels from 1 and includes the last one; boxes here have edges that count from 0.

Format: "The PASCAL VOC2012 Challenge Development Kit", annotation of bounding boxes.
"""

import collections
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree

from training import annotations
from training.annotations import (
    ALL,
    IMAGE_SUFFIXES,
    BadObjectError,
    BadSplitError,
    Content,
    DataError,
    Entry,
    ImageInfo,
    Object,
    Problem,
    left_out,
)

LAYOUT = "Annotations/ID.xml, JPEGImages/ID.jpg and, for splits, ImageSets/Main/SPLIT.txt"
XML_LIMIT = 16 * 2**20  # bytes; a real annotation has a few thousand


def fits(directory: Path) -> bool:
    """Whether a folder has this layout."""
    return all((directory / part).is_dir() for part in ("Annotations", "JPEGImages"))


class Folder(annotations.Folder):
    """A Pascal VOC folder."""

    format = "Pascal VOC"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        if not fits(directory):
            raise DataError(f"{directory}: not a Pascal VOC folder; expected {LAYOUT}")
        self._images: dict[str, list[Path]] = collections.defaultdict(list)
        for path in sorted((directory / "JPEGImages").iterdir()):
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                self._images[path.stem].append(path)

    def splits(self) -> list[str]:
        """Names of the splits, without VOC's per-class lists (`ID 1`, `ID -1`)."""
        paths = sorted((self.directory / "ImageSets/Main").glob("*.txt"))
        return [path.stem for path in paths if not _is_class_list(path)] or [ALL]

    def image_ids(self, split: str) -> list[str]:
        """The ids a split names, in its order, repeated ones included.

        Raises BadSplitError where it is missing, empty or not text.
        """
        file = f"ImageSets/Main/{split}.txt"
        if split == ALL and self.splits() == [ALL]:
            return self._all_ids()
        if not annotations.is_file(self.directory / file):
            message = f"no such split; splits here: {', '.join(self.splits())}"
            raise BadSplitError(self.directory, file, message)
        try:
            lines = annotations.read_lines(self.directory / file)
        except DataError as error:
            raise BadSplitError(self.directory, file, str(error)) from error
        image_ids = [line.strip() for line in lines if line.strip()]
        if not image_ids:
            message = "the split names no image; expected one image id a line"
            raise BadSplitError(self.directory, file, message)
        return image_ids

    def _all_ids(self) -> list[str]:
        image_ids = {path.stem for path in (self.directory / "Annotations").glob("*.xml")}
        image_ids |= set(self._images)
        if not image_ids:
            raise BadSplitError(self.directory, "Annotations", "no annotation in there")
        return sorted(image_ids)

    def entries(self, split: str) -> tuple[list[Entry], list[Problem]]:
        counts = collections.Counter(self.image_ids(split))
        file = f"ImageSets/Main/{split}.txt"
        problems = [
            Problem(file, None, "duplicate id", f"{name!r} stands {n} times, read once", "nothing")
            for name, n in counts.items()
            if n > 1
        ]
        return [self._entry(image_id) for image_id in counts], problems

    def _entry(self, image_id: str) -> Entry:
        file = f"Annotations/{image_id}.xml"
        images = self._images.get(image_id, [])
        if problem := annotations.bad_id(image_id):
            return Entry(image_id, file, None, (problem,))
        if not annotations.is_file(self.directory / file):
            message = (
                "the split names it, but there is no such file; an image without objects needs "
                "an annotation without <object>"
            )
            return left_out(image_id, file, file, "missing annotation", message)
        if not images:
            message = (
                f"there is no JPEGImages/{image_id} with a suffix of {', '.join(IMAGE_SUFFIXES)}"
            )
            return left_out(image_id, file, file, "missing image", message)
        if len(images) > 1:
            names = " and ".join(path.name for path in images)
            message = f"one id, several images: {names}"
            return left_out(image_id, file, file, "bad image", message)
        return self.entry(image_id, file, images[0])

    def content(self, entry: Entry, info: ImageInfo) -> Content:
        try:
            root = _parse(self.directory / entry.file)
        except DataError as error:
            problem = Problem(entry.file, None, "bad XML", str(error), "image")
            return Content(problems=(problem,))
        records = enumerate(root.findall("object"))
        return Content(
            _claimed_size(root), *annotations.parse_objects(records, entry.file, _object)
        )

    def strays(self) -> list[Problem]:
        """Annotations without image that no split names."""
        named: set[str] = set()
        for split in self.splits():
            try:
                named |= set(self.image_ids(split))
            except BadSplitError:
                continue  # reading that split says so
        message = "there is no such image in JPEGImages/, and no split names it"
        return [
            Problem(f"Annotations/{path.name}", None, "missing image", message, "image")
            for path in sorted((self.directory / "Annotations").glob("*.xml"))
            if path.stem not in self._images and path.stem not in named
        ]


def _is_class_list(path: Path) -> bool:
    try:
        words = annotations.read_lines(path)[0].split()
    except (DataError, IndexError):
        return False  # image_ids says what is wrong with it
    return len(words) == 2 and words[1] in ("-1", "0", "1")


def _parse(path: Path) -> Element:
    """The <annotation> element; raises DataError with a reason that fits in a line."""
    try:
        root = ElementTree.fromstring(annotations.read_bytes(path, XML_LIMIT))
    except (ParseError, ValueError, LookupError, OSError) as error:
        # ValueError holds defusedxml's refusals and Python's encoding errors.
        raise DataError(f"not acceptable as XML: {type(error).__name__}: {error}") from error
    if root.tag != "annotation":
        raise DataError(f"expected <annotation> at the top, found {root.tag[:40]!r}")
    return root


def _object(element: Element, index: int) -> Object:
    label = annotations.clean_label(_text(element, "name"))
    box = element.find("bndbox")
    if box is None:
        raise BadObjectError("<bndbox> is missing")
    xmin, ymin, xmax, ymax = (_number(box, tag) for tag in ("xmin", "ymin", "xmax", "ymax"))
    text = f"x {xmin:g} to {xmax:g}, y {ymin:g} to {ymax:g}"
    annotations.check_area(xmax - xmin, ymax - ymin, text)
    edges = (xmin - 1, ymin - 1, xmax, ymax)
    (difficult, doubts), (truncated, more) = (
        annotations.flag(element.findtext(tag), f"<{tag}>") for tag in ("difficult", "truncated")
    )
    return Object(index, label, edges, text, difficult, truncated, doubts + more)


def _text(element: Element, tag: str) -> str:
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise BadObjectError(f"<{tag}> is missing or empty")
    return text


def _number(element: Element, tag: str) -> float:
    return annotations.finite(_text(element, tag), f"<{tag}>")


def _claimed_size(root: Element) -> tuple[float, float] | None:
    size = root.find("size")
    try:
        return None if size is None else (_number(size, "width"), _number(size, "height"))
    except BadObjectError:
        return None
