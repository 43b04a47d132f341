"""Reads a Pascal VOC folder, and says of each flaw in it what was wrong and where.

In: DIRECTORY/Annotations/ID.xml, DIRECTORY/JPEGImages/ID.{jpg,jpeg,png,bmp} and
DIRECTORY/ImageSets/Main/SPLIT.txt, one image id a line. An image is found by its id, never by a
path written in the XML.

Out: a `Dataset` of `Annotation`s, with boxes in pixels of the upright image (EXIF orientation
applied), and of `Problem`s. What a problem is fatal for is left out, the rest is kept. The file
is XML from anywhere, so entities are refused and nothing outside of DIRECTORY is opened.

Raises: `DataError`, the root of what goes wrong with data, itself a `TrainingError`.

    DataError           the folder cannot be used at all
    ├── BadSplitError   a split is missing, empty or not text
    ├── BadImageError   a file does not decode (`read` makes a problem of it)
    ├── BadObjectError  an <object> cannot be used (`read` makes a problem of it)
    │   └── ZeroAreaError
    └── ManifestError   records are missing or half written (training.records)

Format: "The PASCAL VOC2012 Challenge Development Kit", annotation of bounding boxes.
"""

import collections
import dataclasses
import math
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import ElementTree
from PIL import Image
from tqdm import tqdm

from training.errors import TrainingError

IMAGE_FORMATS = ("JPEG", "PNG", "BMP")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
XML_LIMIT = 16 * 2**20  # bytes; a real annotation has a few thousand
TOLERANCE = 1.0  # pixels outside the image that are a writer's rounding, clipped without a word

Kind = Literal[
    "zero area",
    "outside the image",
    "clipped",
    "unknown class",
    "bad image",
    "missing image",
    "missing annotation",
    "size disagrees",
    "bad XML",
    "bad object",
    "bad id",
    "duplicate id",
    "bad split",
]
FatalFor = Literal["nothing", "box", "image"]


class DataError(TrainingError):
    """The folder or the split cannot be used at all."""


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One image and its boxes.

    boxes_xyxy: float32 [N, 4], pixels of the upright image, continuous edges counted from 0:
        0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height.
    labels: the class name of each box, N of them.
    difficult, truncated: bool [N], VOC's flags.
    """

    image_id: str
    image_path: Path
    width: int  # pixels, upright
    height: int  # pixels, upright
    boxes_xyxy: np.ndarray
    labels: tuple[str, ...]
    difficult: np.ndarray
    truncated: np.ndarray


@dataclasses.dataclass(frozen=True)
class Problem:
    """One flaw: `file` is relative to the folder, `index` the object's place in it, from 0."""

    file: str
    index: int | None
    kind: Kind
    message: str
    fatal_for: FatalFor  # what is left out because of it

    def __str__(self) -> str:
        place = self.file if self.file.isprintable() else repr(self.file)
        return f"{place}{'' if self.index is None else f', object {self.index}'}: {self.message}"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split. `labels` are the class names in the order of their class ids."""

    directory: Path
    split: str
    labels: tuple[str, ...]
    annotations: tuple[Annotation, ...]
    problems: tuple[Problem, ...]


@dataclasses.dataclass(frozen=True)
class Object:
    """One usable <object>; `box_xyxy` is float64 and may still reach outside the image."""

    index: int
    label: str
    box_xyxy: tuple[float, float, float, float]
    difficult: bool
    truncated: bool


@dataclasses.dataclass(frozen=True)
class ImageInfo:
    """What decoding a file told: its upright size in pixels, its format, its orientation."""

    width: int
    height: int
    format: str  # one of IMAGE_FORMATS
    orientation: int  # EXIF, 1 to 8; 5 and above swap width and height


class BadSplitError(DataError):
    """A split's file is missing, empty or not text; `file` is its path in the folder."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.file = "/".join(path.parts[-3:])


class BadImageError(DataError):
    """An image file does not decode."""


class BadObjectError(DataError):
    """An <object> cannot be used."""


class ZeroAreaError(BadObjectError):
    """A box whose corners are equal or swapped."""


def read(directory: Path, split: str, labels: Sequence[str] | None = None) -> Dataset:
    """Read a split of a VOC folder, decoding every image once to know that it decodes.

    labels: the classes wanted, in the order of their ids; None takes those found in the split,
        the most frequent first, ties by name.

    Raises DataError where the folder has no such layout or the split is missing or empty.
    """
    return Folder(directory).read(split, labels)


def describe(problems: Iterable[Problem], examples: int = 3) -> list[str]:
    """Lines that group problems by kind and by what was left out, most frequent first."""
    groups = collections.defaultdict(list)
    for problem in problems:
        groups[problem.kind, problem.fatal_for].append(problem)
    lines = []
    for (kind, fatal_for), group in sorted(groups.items(), key=lambda item: -len(item[1])):
        lines.append(f"{len(group)} x {kind} ({CONSEQUENCE[fatal_for]})")
        lines += [f"    {problem}" for problem in group[:examples]]
        lines += [f"    and {len(group) - examples} more"] * (len(group) > examples)
    return lines


CONSEQUENCE = {"nothing": "kept", "box": "box left out", "image": "image left out"}


class Folder:
    """A VOC folder whose images are decoded once, however many splits name them.

    Raises DataError where one of its three directories is missing.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
            if not (directory / part).is_dir():
                raise DataError(
                    f"{directory}: not a Pascal VOC folder, {part}/ is missing; expected "
                    "Annotations/ID.xml, JPEGImages/ID.jpg and ImageSets/Main/SPLIT.txt"
                )
        self._images: dict[str, list[Path]] = collections.defaultdict(list)
        for path in sorted((directory / "JPEGImages").iterdir()):
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                self._images[path.stem].append(path)
        self._loaded: dict[str, _Loaded] = {}

    def splits(self) -> list[str]:
        """Names of the splits, without VOC's per-class lists (`ID 1`, `ID -1`)."""
        paths = sorted((self.directory / "ImageSets/Main").glob("*.txt"))
        return [path.stem for path in paths if not _is_class_list(path)]

    def image_ids(self, split: str) -> list[str]:
        """The ids a split names, in its order, repeated ones included.

        Raises BadSplitError where it is missing, empty or not text.
        """
        path = self.directory / "ImageSets/Main" / f"{split}.txt"
        if not path.is_file():
            here = ", ".join(self.splits()) or "none"
            raise BadSplitError(path, f"no such split; splits here: {here}")
        image_ids = [line.strip() for line in _lines(path) if line.strip()]
        if not image_ids:
            raise BadSplitError(path, "the split names no image; expected one image id a line")
        return image_ids

    def read(self, split: str, labels: Sequence[str] | None = None) -> Dataset:
        """As `voc.read`."""
        problems = _duplicates(self.image_ids(split), f"ImageSets/Main/{split}.txt")
        loaded = self._load_split(split)
        names = _labels_found(loaded) if labels is None else check_labels(labels)
        for item in loaded:
            problems += item.problems + _outside_labels(item, names)
        annotations = [_annotation(item, item.info, names) for item in loaded if item.info]
        return Dataset(self.directory, split, names, tuple(annotations), tuple(problems))

    def labels(self, splits: Sequence[str]) -> tuple[str, ...]:
        """The classes found in these splits, the most frequent first, ties by name."""
        return _labels_found(item for split in splits for item in self._load_split(split))

    def strays(self) -> list[Problem]:
        """Annotations without image that no split read so far has named."""
        paths = sorted((self.directory / "Annotations").glob("*.xml"))
        message = "there is no such image in JPEGImages/, and no split names it"
        return [
            Problem(f"Annotations/{path.name}", None, "missing image", message, "image")
            for path in paths
            if path.stem not in self._images and path.stem not in self._loaded
        ]

    def _load_split(self, split: str) -> list["_Loaded"]:
        unique = dict.fromkeys(self.image_ids(split))
        bar = tqdm(unique, desc=f"reading {split}", unit="image", leave=False, disable=None)
        return [self._load(image_id) for image_id in bar]

    def _load(self, image_id: str) -> "_Loaded":
        if image_id not in self._loaded:
            self._loaded[image_id] = self._load_once(image_id)
        return self._loaded[image_id]

    def _load_once(self, image_id: str) -> "_Loaded":
        file = f"Annotations/{image_id}.xml"
        if not image_id.isprintable() or {"/", "\\"} & set(image_id):
            return _left_out(f"id {image_id!r}", "bad id", "an image id is a file's name, no path")
        images = self._images.get(image_id, [])
        if not (self.directory / file).is_file():
            return _left_out(
                file,
                "missing annotation",
                "the split names it, but there is no such file; an image without objects needs "
                "an annotation without <object>",
            )
        if not images:
            return _left_out(
                file,
                "missing image",
                f"there is no JPEGImages/{image_id} with a suffix of {', '.join(IMAGE_SUFFIXES)}",
            )
        if len(images) > 1:
            names = " and ".join(path.name for path in images)
            return _left_out(file, "bad image", f"one id, several images: {names}")
        return self._load_pair(image_id, file, images[0])

    def _load_pair(self, image_id: str, file: str, image_path: Path) -> "_Loaded":
        try:
            root = _parse(self.directory / file)
        except DataError as error:
            return _left_out(file, "bad XML", str(error))
        try:
            info = inspect_image(image_path)
        except BadImageError as error:
            return _left_out(f"JPEGImages/{image_path.name}", "bad image", str(error))
        objects, problems = _objects(root, file)
        size_problems = _check_size(root, file, info, objects)
        if any(problem.fatal_for == "image" for problem in size_problems):
            return _Loaded(problems + size_problems)
        objects, box_problems = _fit(objects, file, info)
        return _Loaded(
            problems + size_problems + box_problems, image_id, image_path, info, tuple(objects)
        )


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """One image id as read, before labels are chosen; `info` is None where it is left out."""

    problems: list[Problem]
    image_id: str = ""
    image_path: Path = Path()
    info: ImageInfo | None = None
    objects: tuple[Object, ...] = ()


def inspect_image(path: Path) -> ImageInfo:
    """Decode a file in full, for a header alone does not tell whether the pixels are there.

    Raises BadImageError for what is no JPEG, PNG or BMP, is truncated, or claims so many pixels
    that Pillow takes it for a decompression bomb.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which is not used here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                image.load()
                return _image_info(image)
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        raise BadImageError(f"does not decode as JPEG, PNG or BMP: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "the file is none of them"
    return str(error) or type(error).__name__


def _image_info(image: Image.Image) -> ImageInfo:
    orientation = image.getexif().get(0x0112, 1)
    orientation = orientation if orientation in range(1, 9) else 1
    width, height = image.size if orientation < 5 else image.size[::-1]
    # A phone's MPO is a JPEG with a second picture behind it, which decoders ignore.
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    return ImageInfo(width, height, kind, orientation)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSplitError(path, f"not readable as UTF-8 text: {error}") from error


def _is_class_list(path: Path) -> bool:
    try:
        words = _lines(path)[0].split()
    except (BadSplitError, IndexError):
        return False  # image_ids says what is wrong with it
    return len(words) == 2 and words[1] in ("-1", "0", "1")


def _duplicates(image_ids: list[str], file: str) -> list[Problem]:
    return [
        Problem(
            file, None, "duplicate id", f"{image_id!r} stands {count} times, read once", "nothing"
        )
        for image_id, count in collections.Counter(image_ids).items()
        if count > 1
    ]


def _left_out(file: str, kind: Kind, message: str) -> _Loaded:
    return _Loaded([Problem(file, None, kind, message, "image")])


def _parse(path: Path) -> Element:
    """The <annotation> element; raises DataError with a reason that fits in a line."""
    if path.stat().st_size > XML_LIMIT:
        raise DataError(f"the file has {path.stat().st_size} bytes, the limit is {XML_LIMIT}")
    try:
        root = ElementTree.parse(path).getroot()
    except (ParseError, ValueError, LookupError, OSError) as error:
        # ValueError holds defusedxml's refusals and Python's encoding errors.
        raise DataError(f"not acceptable as XML: {type(error).__name__}: {error}") from error
    if root is None or root.tag != "annotation":
        raise DataError(f"expected <annotation> at the top, found {getattr(root, 'tag', None)!r}")
    return root


def _objects(root: Element, file: str) -> tuple[list[Object], list[Problem]]:
    objects, problems = [], []
    for index, element in enumerate(root.findall("object")):
        try:
            objects.append(_object(element, index))
        except ZeroAreaError as error:
            problems.append(Problem(file, index, "zero area", str(error), "box"))
        except BadObjectError as error:
            problems.append(Problem(file, index, "bad object", str(error), "box"))
    return objects, problems


def _object(element: Element, index: int) -> Object:
    label = " ".join(_text(element, "name").split())
    if not label.isprintable():
        raise BadObjectError(f"the <name> has characters that cannot be printed: {label!r}")
    box = element.find("bndbox")
    if box is None:
        raise BadObjectError("<bndbox> is missing")
    xmin, ymin, xmax, ymax = (_number(box, tag) for tag in ("xmin", "ymin", "xmax", "ymax"))
    if xmax <= xmin or ymax <= ymin:
        raise ZeroAreaError(
            f"expected xmin < xmax and ymin < ymax, found x {xmin:g} to {xmax:g}, "
            f"y {ymin:g} to {ymax:g}"
        )
    # VOC counts pixels from 1 and includes the last one; edges here count from 0.
    edges = (xmin - 1, ymin - 1, xmax, ymax)
    return Object(index, label, edges, _flag(element, "difficult"), _flag(element, "truncated"))


def _text(element: Element, tag: str) -> str:
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise BadObjectError(f"<{tag}> is missing or empty")
    return text


def _number(element: Element, tag: str) -> float:
    text = _text(element, tag)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadObjectError(f"expected a number in <{tag}>, found {text[:40]!r}")
    return number


def _flag(element: Element, tag: str) -> bool:
    """VOC's 0 or 1; missing, empty and labelling tools' `Unspecified` mean 0."""
    text = (element.findtext(tag) or "").strip().lower()
    if text not in ("", "0", "1", "unspecified", "false", "true"):
        raise BadObjectError(f"expected 0 or 1 in <{tag}>, found {text[:40]!r}")
    return text in ("1", "true")


def _check_size(root: Element, file: str, info: ImageInfo, objects: list[Object]) -> list[Problem]:
    """The real size counts where all boxes fit into it; else nobody knows what they meant."""
    claimed, real = _claimed_size(root), (info.width, info.height)
    if claimed == real:
        return []
    found = f"{claimed[0]:g}x{claimed[1]:g}" if claimed else "nothing readable"
    message = f"<size> says {found}, the upright image has {real[0]}x{real[1]}"
    if claimed == real[::-1] and info.orientation >= 5:
        message += "; its boxes lie in the picture before EXIF rotation"
        return [Problem(file, None, "size disagrees", message, "image")]
    if claimed and not all(_overhang(item, info) <= TOLERANCE for item in objects):
        message += "; not all boxes fit into that"
        return [Problem(file, None, "size disagrees", message, "image")]
    return [Problem(file, None, "size disagrees", f"{message}, which counts", "nothing")]


def _claimed_size(root: Element) -> tuple[float, float] | None:
    size = root.find("size")
    try:
        return None if size is None else (_number(size, "width"), _number(size, "height"))
    except BadObjectError:
        return None


def _overhang(item: Object, info: ImageInfo) -> float:
    """By how many pixels a box reaches outside the image, on its worst side."""
    x1, y1, x2, y2 = item.box_xyxy
    return max(-x1, -y1, x2 - info.width, y2 - info.height, 0.0)


def _fit(objects: list[Object], file: str, info: ImageInfo) -> tuple[list[Object], list[Problem]]:
    """Clip boxes to the image; one of which nothing remains is left out."""
    kept, problems = [], []
    for item in objects:
        clipped = _clip(item, info)
        x1, y1, x2, y2 = np.asarray(clipped.box_xyxy, np.float32)  # as it is stored
        where = f"{_box_text(item)} in an image of {info.width}x{info.height}"
        if x2 <= x1 or y2 <= y1:
            problems.append(Problem(file, item.index, "outside the image", where, "box"))
            continue
        if _overhang(item, info) > TOLERANCE:
            problems.append(Problem(file, item.index, "clipped", where, "nothing"))
        kept.append(clipped)
    return kept, problems


def _clip(item: Object, info: ImageInfo) -> Object:
    x1, y1, x2, y2 = item.box_xyxy
    box_xyxy = (max(x1, 0), max(y1, 0), min(x2, info.width), min(y2, info.height))
    return dataclasses.replace(item, box_xyxy=box_xyxy)


def _box_text(item: Object) -> str:
    x1, y1, x2, y2 = item.box_xyxy
    return f"x {x1 + 1:g} to {x2:g}, y {y1 + 1:g} to {y2:g}"  # as the file has it


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels, where they are different, printable and without needless space; DataError."""
    if len(set(labels)) != len(labels) or not all(_is_label(label) for label in labels):
        raise DataError(f"expected different, printable class names, found {list(labels)!r}")
    return tuple(labels)


def _is_label(text: str) -> bool:
    return text.isprintable() and text != "" and text == " ".join(text.split())


def _labels_found(loaded: Iterable[_Loaded]) -> tuple[str, ...]:
    counts = collections.Counter(obj.label for item in loaded for obj in item.objects)
    return tuple(sorted(counts, key=lambda label: (-counts[label], label)))


def _outside_labels(item: _Loaded, labels: tuple[str, ...]) -> list[Problem]:
    return [
        Problem(
            f"Annotations/{item.image_id}.xml",
            obj.index,
            "unknown class",
            f"expected one of {', '.join(labels)}, found {obj.label!r}",
            "box",
        )
        for obj in item.objects
        if obj.label not in labels
    ]


def _annotation(item: _Loaded, info: ImageInfo, labels: tuple[str, ...]) -> Annotation:
    objects = [obj for obj in item.objects if obj.label in labels]
    return Annotation(
        image_id=item.image_id,
        image_path=item.image_path,
        width=info.width,
        height=info.height,
        boxes_xyxy=np.array([obj.box_xyxy for obj in objects], np.float32).reshape(-1, 4),
        labels=tuple(obj.label for obj in objects),
        difficult=np.array([obj.difficult for obj in objects], bool),
        truncated=np.array([obj.truncated for obj in objects], bool),
    )
