"""Annotated images whatever their format: what a reader gives, and the checks all of them pass.

A reader (voc.py, coco.py, ...) is a `Folder` that names its splits, lists what a split names
(`Entry`) and tells what an annotation says (`Content`). The rest is here: every image is decoded
once to know that it decodes, claimed sizes are compared with real ones and boxes are fitted into
their image.

An image of which an object cannot be used is left out: what lies there without a box would be
learned as background. What is no object does not count: a click without extent, and classes that
the labels given do not name.

Out: a `Dataset` of `Annotation`s, with boxes in pixels of the upright image (EXIF orientation
applied), and of `Problem`s. What a problem is fatal for is left out, the rest is kept. Folders come
from anywhere, so no file outside of them is opened, not even through a link.

Raises: `DataError`, the root of what goes wrong with data, itself a `TrainingError`.

    DataError           the folder cannot be used at all
    ├── NoFolderError   none was named
    ├── BadSplitError   a split is missing, empty or not readable
    ├── BadImageError   a file does not decode (`read` makes a problem of it)
    ├── BadObjectError  an object cannot be used (`read` makes a problem of it)
    │   ├── ZeroAreaError
    │   │   └── PointError
    │   └── UnknownClassError
    └── ManifestError   records are missing or half written (training.data.records)
"""

import abc
import collections
import dataclasses
import math
import os
import re
import reprlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal, TypeVar

import numpy as np
from tqdm import tqdm

from training.data import decoding
from training.data.decoding import ImageInfo
from training.errors import TrainingError

Record = TypeVar("Record")  # an object as a format has it

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff")
# Pictures that are not read. They are looked for to be named, for whoever has them counts on them.
UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".gif", ".jxl", ".jp2", ".dng", ".psd")
IMAGE_LIMIT = 2**30  # bytes of an image file; 64 megapixels of 3 x 16 bits have 2**28.5
LIST_LIMIT = 64 * 2**20  # bytes of a text file that lists images
LABEL_LIMIT = 200  # characters of a class name
LEAST_SIDE = 1.0  # pixels; a box below that shows nothing to learn
RESIZED = 0.01  # a claimed size that is further off is no rounding
SHARES_FROM = 16  # pixels a side of an image from which boxes within 0..1 are taken for shares
NO, YES = ("", "no", "none", "false", "unknown", "unspecified"), ("yes", "true")  # in flags
TOLERANCE = 1.0  # pixels outside the image that are a writer's rounding, clipped without a word
ALL = "all"  # the one split of a folder that names none
# Words that name a split in the names of files and folders, such as instances_val2017.json.
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "trainval": "trainval",
}

Kind = Literal[
    "leakage",
    "duplicate image",
    "zero area",
    "under a pixel",
    "shares, not pixels",
    "bad flag",
    "outside the image",
    "clipped",
    "unknown class",
    "bad image",
    "missing image",
    "missing annotation",
    "outside the folder",
    "size disagrees",
    "bad XML",
    "bad text",
    "bad object",
    "bad id",
    "duplicate id",
    "bad split",
    "no boxes",
    "near-duplicate",
    "broken group",
]
Resized = Literal["unknown", "yes", "no"]
FatalFor = Literal["nothing", "box", "image", "split"]
CONSEQUENCE = {
    "nothing": "kept",
    "box": "box left out",
    "image": "image left out",
    "split": "split not usable",
}


class DataError(TrainingError):
    """The folder or the split cannot be used at all."""


class NoFolderError(DataError):
    """No folder was named: wrong usage."""

    exit_code = 2


class BadSplitError(DataError):
    """A split's file is missing, empty or not readable; `file` is its path in the folder."""

    def __init__(self, directory: Path, file: str, message: str) -> None:
        super().__init__(f"{directory / file}: {message}")
        self.file = file


class BadImageError(DataError):
    """An image file does not decode."""


class BadObjectError(DataError):
    """An object cannot be used."""


class ZeroAreaError(BadObjectError):
    """A box whose corners are equal or swapped."""


class PointError(ZeroAreaError):
    """A box without any extent: somebody clicked."""


class UnknownClassError(BadObjectError):
    """A class number that the folder gives no name."""


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One image and its boxes.

    boxes_xyxy: float32 [N, 4], pixels of the upright image, continuous edges counted from 0:
        0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height.
    labels: the class name of each box, N of them.
    difficult, truncated: bool [N], VOC's flags; COCO's iscrowd is `difficult`.
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
    """One flaw: `file` is relative to the folder, `index` the object's place in it, from 0.

    In COCO that is the place in `annotations`, in YOLO the line.
    """

    file: str
    index: int | None
    kind: Kind
    message: str
    fatal_for: FatalFor  # what is left out because of it

    @property
    def is_remark(self) -> bool:
        """Whether nothing is lost or wrong because of it: only then is data fit for training."""
        if self.kind in ("leakage", "no boxes", "broken group"):
            return False
        spare = (("duplicate image", "image"), ("zero area", "box"))  # a copy, a click
        return self.fatal_for == "nothing" or (self.kind, self.fatal_for) in spare

    def __str__(self) -> str:
        place = self.file if self.file.isprintable() else repr(self.file)
        message = self.message if self.message.isprintable() else repr(self.message)
        return f"{place}{'' if self.index is None else f', object {self.index}'}: {message}"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split. `labels` are the class names in the order of their class ids."""

    source: str  # the folder or folders, for messages
    split: str
    labels: tuple[str, ...]
    annotations: tuple[Annotation, ...]
    problems: tuple[Problem, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image that a split names, before anything of it is opened.

    file: its annotation, relative to the folder.
    image_path: None where `problems` says why there is none.
    """

    image_id: str
    file: str
    image_path: Path | None
    problems: tuple[Problem, ...] = ()


@dataclasses.dataclass(frozen=True)
class Object:
    """One usable object; `box_xyxy` counts from 0 and may still reach outside the image.

    remarks: what of it could not be read and was taken for its default.
    """

    index: int
    label: str
    box_xyxy: tuple[float, float, float, float]  # pixels
    text: str  # the box as the file has it
    difficult: bool = False
    truncated: bool = False
    remarks: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Content:
    """What an annotation says: `size` is width and height in pixels, None where not readable."""

    size: tuple[float, float] | None = None
    objects: tuple[Object, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclasses.dataclass(frozen=True)
class Item:
    """One image as read, before labels are chosen; `info` is None where it is left out."""

    image_id: str
    file: str
    image_path: Path | None
    info: ImageInfo | None
    objects: tuple[Object, ...]
    problems: tuple[Problem, ...]


class Folder(abc.ABC):
    """An annotated folder whose images are decoded once, however many splits name them.

    resized: whether images of another size than their annotation says were resized after it was
        made, so that boxes are scaled, or not, so that boxes count as they are; "unknown" leaves
        such images out.
    """

    format: ClassVar[str]
    resized: Resized = "unknown"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._root = Path(os.path.realpath(directory))
        self._items: dict[Entry, Item] = {}

    @abc.abstractmethod
    def splits(self) -> list[str]:
        """Names of the splits; [ALL] where the folder names none."""

    @abc.abstractmethod
    def entries(self, split: str) -> tuple[list[Entry], list[Problem]]:
        """The images that a split names, each once, and what is wrong with the list itself.

        Raises BadSplitError where the split is missing, empty or not readable.
        """

    @abc.abstractmethod
    def content(self, entry: Entry, info: ImageInfo) -> Content:
        """What the annotation of an image says."""

    def strays(self) -> list[Problem]:
        """Annotations that belong to no image of any split."""
        return []

    def require_split(self, split: str) -> None:
        """BadSplitError where no file is of this split."""
        if split not in self.splits():
            message = f"no file of a split {split}; splits here: {', '.join(self.splits())}"
            raise BadSplitError(self.directory, ".", message)

    def read(self, split: str, labels: Sequence[str] | None = None) -> Dataset:
        """A split, with every image decoded once to know that it decodes.

        labels: the classes wanted, in the order of their ids; None takes those found in the split,
            the most frequent first, ties by name.

        Raises BadSplitError as `entries`, and DataError for labels that cannot be.
        """
        entries, problems = self.entries(split)
        items = self.items(entries, split)
        return dataset(str(self.directory), split, items, problems, labels)

    def items(self, entries: Iterable[Entry], split: str) -> list[Item]:
        """Read and check these images; `split` names them on the progress bar."""
        bar = tqdm(entries, desc=f"reading {split}", unit="image", leave=False, disable=None)
        return [self._item(entry) for entry in bar]

    def _item(self, entry: Entry) -> Item:
        if entry not in self._items:
            self._items[entry] = self._read(entry)
        return self._items[entry]

    def _read(self, entry: Entry) -> Item:
        if entry.image_path is None:
            return _left_out(entry, entry.problems)
        try:
            info = inspect_image(entry.image_path)
        except BadImageError as error:
            file = self.relative(entry.image_path)
            return _left_out(entry, [Problem(file, None, "bad image", str(error), "image")])
        content = self.content(entry, info)
        if self.resized == "yes":
            content = _scaled(content, info)
        problems = [*content.problems, *_check_size(content, entry.file, info, self.resized)]
        if _is_fatal(problems):
            return _left_out(entry, problems)
        objects, box_problems = _fit(content.objects, entry.file, info)
        problems += box_problems
        if _is_fatal(problems):
            return _left_out(entry, problems)
        return Item(
            entry.image_id, entry.file, entry.image_path, info, tuple(objects), tuple(problems)
        )

    def relative(self, path: Path) -> str:
        """A path as messages name it: from the folder on."""
        return path.relative_to(self.directory).as_posix()

    def within(self, path: Path) -> bool:
        """Whether a path lies in the folder once links are followed."""
        return Path(os.path.realpath(path)).is_relative_to(self._root)

    def not_read(self, folder: Path) -> list[Problem]:
        """The pictures below a folder that are in none of the formats, by their names."""
        message = f"not read; save it as JPEG or PNG (read are {', '.join(IMAGE_SUFFIXES)})"
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in UNREAD_SUFFIXES)
        return [Problem(self.relative(p), None, "bad image", message, "image") for p in paths]

    def entry(self, image_id: str, file: str, image_path: Path) -> Entry:
        """An entry of an image that is there, if its id and both its places are acceptable."""
        if problem := bad_id(image_id):
            return Entry(image_id, file, None, (problem,))
        for path in (image_path, self.directory / file):
            if not self.within(path):
                message = "a link that leaves the folder; put a copy of the file in its place"
                name = self.relative(path)
                return left_out(image_id, file, name, "outside the folder", message)
        return Entry(image_id, file, image_path)


def left_out(image_id: str, file: str, where: str, kind: Kind, message: str) -> Entry:
    """An entry that cannot be used because of what is wrong at `where`."""
    return Entry(image_id, file, None, (Problem(where, None, kind, message, "image"),))


def bad_id(image_id: str) -> Problem | None:
    """What is wrong with an image id, which becomes the name of files."""
    if image_id and image_id.isprintable() and not {"/", "\\"} & set(image_id):
        return None
    message = "an image id is a file's name, no path"
    return Problem(f"id {brief(image_id)}", None, "bad id", message, "image")


def dataset(
    source: str,
    split: str,
    items: Sequence[Item],
    problems: Iterable[Problem] = (),
    labels: Sequence[str] | None = None,
) -> Dataset:
    """The usable of these images with the boxes of these labels, as `Folder.read`."""
    names = labels_found(items) if labels is None else check_labels(labels)
    found = list(problems)
    for item in items:
        found += [*item.problems, *_outside_labels(item, names)]
    annotations = [annotation for item in items for annotation in _annotation(item, names)]
    return Dataset(source, split, names, tuple(annotations), tuple(found))


def check_usable(dataset: Dataset) -> None:
    """DataError where a split holds nothing to write."""
    if not dataset.annotations or not dataset.labels:
        raise DataError(
            f"{dataset.source}: no usable image or no class in the split {dataset.split}\n"
            + "\n".join(describe_problems(dataset.problems))
        )


def describe_problems(problems: Iterable[Problem], examples: int = 3) -> list[str]:
    """Lines that group problems by kind and by what was left out.

    Leakage comes first, for it is the one that makes figures lie, then the most frequent.
    """
    groups = collections.defaultdict(list)
    for problem in problems:
        groups[problem.kind, problem.fatal_for].append(problem)
    lines = []
    for (kind, fatal_for), group in sorted(
        groups.items(), key=lambda item: (item[0][0] != "leakage", -len(item[1]))
    ):
        lines.append(f"{len(group)} x {kind} ({CONSEQUENCE[fatal_for]})")
        lines += [f"    {problem}" for problem in group[:examples]]
        lines += [f"    and {len(group) - examples} more"] * (len(group) > examples)
    return lines


def labels_found(items: Iterable[Item]) -> tuple[str, ...]:
    """The classes of these images' boxes, the most frequent first, ties by name."""
    counts = collections.Counter(obj.label for item in items for obj in item.objects)
    return tuple(sorted(counts, key=lambda label: (-counts[label], label)))


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels, where they are different, printable and without needless space; DataError."""
    if len(set(labels)) != len(labels) or not all(_is_label(label) for label in labels):
        raise DataError(f"expected different, printable class names, found {list(labels)!r}")
    return tuple(labels)


def _is_label(text: str) -> bool:
    return text.isprintable() and text != "" and text == " ".join(text.split())


def clean_label(text: object) -> str:
    """A class name without needless space; BadObjectError where it is no printable text."""
    label = " ".join(text.split()) if isinstance(text, str) else ""
    if not 0 < len(label) <= LABEL_LIMIT:
        raise BadObjectError(f"expected a class name, found {brief(text)}")
    if not label.isprintable():
        raise BadObjectError(f"a class name that cannot be printed: {brief(label)}")
    return label


def finite(value: object, name: str) -> float:
    """A number from a file; BadObjectError where it is none, not finite or too large."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise BadObjectError(f"expected a number in {name}, found {brief(value)}")
    return found


def flag(value: object, name: str) -> tuple[bool, tuple[str, ...]]:
    """Whether a flag is set: above 0, for some write shares; and a remark where nobody can tell."""
    text = "" if value is None else str(value).strip().lower()
    if text in (*NO, *YES):
        return text in YES, ()
    try:
        return finite(text, name) > 0, ()
    except BadObjectError:
        return False, (f"expected 0 or 1 in {name}, found {brief(value)}; taken for 0",)


def check_area(width: float, height: float, text: str) -> None:
    """ZeroAreaError where a box has none; PointError where it has neither width nor height."""
    if width <= 0 or height <= 0:
        kind = PointError if width == height == 0 else ZeroAreaError
        raise kind(f"expected a width and a height above 0, found {text}")


def brief(value: object) -> str:
    """Any value from a file, cut to what fits in a message."""
    return reprlib.repr(value)[:80]


def _object_problem(error: BadObjectError, file: str, index: int) -> Problem:
    """The problem that an object's error is."""
    kinds: dict[type, Kind] = {ZeroAreaError: "zero area", UnknownClassError: "unknown class"}
    kind: Kind = next((kinds[cls] for cls in type(error).mro() if cls in kinds), "bad object")
    fatal_for: FatalFor = "box" if isinstance(error, PointError) else "image"
    return Problem(file, index, kind, str(error), fatal_for)


def parse_objects(
    records: Iterable[tuple[int, Record]], file: str, parse: Callable[[Record, int], Object]
) -> tuple[tuple[Object, ...], tuple[Problem, ...]]:
    """The usable objects among an annotation's records, each with its place, and the others."""
    objects, problems = [], []
    for index, record in records:
        try:
            item = parse(record, index)
        except BadObjectError as error:
            problems.append(_object_problem(error, file, index))
            continue
        objects.append(item)
        problems += [Problem(file, index, "bad flag", text, "nothing") for text in item.remarks]
    return tuple(objects), tuple(problems)


def split_name(name: str, otherwise: str) -> str:
    """train, val, test or trainval, where a word of a name says so: `valid`, `train2017`."""
    words = re.split(r"[^a-z]+", name.lower())
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else otherwise


def is_file(path: Path) -> bool:
    """Whether there is such a file, for names too that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def find_file(name: str, roots: Iterable[Path], ends: bool = False) -> Path | None:
    """Where a path with `/` leads from one of the folders, or with `ends` the longest end of it."""
    parts = PurePosixPath(name.lstrip("/") if ends else name).parts
    names = ["/".join(parts[at:]) for at in range(len(parts) if ends else 1)]
    if ".." in parts or name.startswith("/") > ends:
        return None
    paths = (root / each for each in names for root in roots)
    return next((path for path in paths if is_file(path)), None)


def by_split(directory: Path, paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Files of annotations by the split that their name tells, or their folder's."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        names = (split_name(part, "") for part in path.relative_to(directory).parts[::-1])
        split = next(filter(None, names), ALL if len(paths) == 1 else path.stem)
        found.setdefault(split, []).append(path)
    return found


def files_below(folder: Path, suffixes: Sequence[str] = ()) -> list[Path]:
    """Files in a folder and its folders, in a fixed order, without hidden ones.

    suffixes: in lower case; none given: all.

    A folder in it may be a link; deeper ones are not followed, for they may lead round in circles.
    """
    tops = [folder, *(path for path in folder.iterdir() if path.is_symlink() and path.is_dir())]
    found = []
    for top in tops:
        for place, folders, files in os.walk(top):
            folders[:] = [name for name in folders if not _is_hidden(name)]
            found += [Path(place) / name for name in files if not _is_hidden(name)]
    wanted = (path for path in found if not suffixes or path.suffix.lower() in suffixes)
    return sorted(path for path in wanted if is_file(path))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def read_bytes(path: Path, limit: int) -> bytes:
    """A file's content; DataError where it is larger than the limit, OSError where unreadable."""
    size = path.stat().st_size
    if size > limit:
        raise DataError(f"the file has {size} bytes, the limit is {limit}")
    return path.read_bytes()


def read_lines(path: Path, limit: int = LIST_LIMIT) -> list[str]:
    """A text file's lines; DataError where it is too large, not UTF-8 or not readable."""
    try:
        return read_bytes(path, limit).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"not readable as UTF-8 text: {error}") from error


def inspect_image(path: Path) -> ImageInfo:
    """What decoding a file in full told. Raises BadImageError as `read_image`."""
    return read_image(path)[2]


def read_image(path: Path) -> tuple[bytes, np.ndarray, ImageInfo]:
    """An image file's bytes, its upright pixels, uint8 RGB [H, W, 3], and what it says of itself.

    Raises BadImageError for what the served network could not be shown either: no JPEG, PNG, BMP,
    WebP or TIFF, truncated, or of too many pixels.
    """
    try:
        encoded = read_bytes(path, IMAGE_LIMIT)
        return encoded, *decoding.decode(encoded)
    except (DataError, OSError, decoding.ImageError) as error:
        raise BadImageError(f"does not decode: {error}") from error


def _left_out(entry: Entry, problems: Iterable[Problem]) -> Item:
    return Item(entry.image_id, entry.file, entry.image_path, None, (), tuple(problems))


def _is_fatal(problems: Iterable[Problem]) -> bool:
    return any(problem.fatal_for == "image" for problem in problems)


def _differs(claimed: tuple[float, float] | None, info: ImageInfo) -> bool:
    """Whether an image may have been resized: by a size that is one, and no mere rounding."""
    real = (info.width, info.height)
    if claimed is None or min(claimed) <= 0 or claimed == real[::-1]:
        return False
    return any(abs(c - r) > max(TOLERANCE, RESIZED * r) for c, r in zip(claimed, real, strict=True))


def _scaled(content: Content, info: ImageInfo) -> Content:
    """What an annotation says of an image that was resized since."""
    if content.size is None or not _differs(content.size, info):
        return content
    real = (info.width, info.height)
    scale = np.tile(np.divide(real, content.size), 2)
    objects = [
        dataclasses.replace(item, box_xyxy=tuple((scale * item.box_xyxy).tolist()))
        for item in content.objects
    ]
    return dataclasses.replace(content, size=real, objects=tuple(objects))


def _check_size(content: Content, file: str, info: ImageInfo, resized: Resized) -> list[Problem]:
    """The real size counts where all boxes fit into it; else nobody knows what they meant.

    Nor does anybody where the image may have been resized: boxes fit into a larger one, too.
    """
    claimed, real = content.size, (info.width, info.height)
    if claimed == real or _is_fatal(content.problems):
        return []
    found = f"{claimed[0]:g}x{claimed[1]:g}" if claimed else "nothing readable"
    message = f"the size it says is {found}, the upright image has {real[0]}x{real[1]}"
    if claimed == real[::-1] and info.orientation >= 5:
        message += "; its boxes lie in the picture before EXIF rotation"
        return [Problem(file, None, "size disagrees", message, "image")]
    if resized == "unknown" and _differs(claimed, info):
        message += "; `--resized yes` scales the boxes to it, `--resized no` takes them as they are"
        return [Problem(file, None, "size disagrees", message, "image")]
    if claimed and not all(_overhang(item, info) <= TOLERANCE for item in content.objects):
        message += "; not all boxes fit into that"
        return [Problem(file, None, "size disagrees", message, "image")]
    return [Problem(file, None, "size disagrees", f"{message}, which counts", "nothing")]


def _overhang(item: Object, info: ImageInfo) -> float:
    """By how many pixels a box reaches outside the image, on its worst side."""
    x1, y1, x2, y2 = item.box_xyxy
    return max(-x1, -y1, x2 - info.width, y2 - info.height, 0.0)


def _fit(
    objects: Iterable[Object], file: str, info: ImageInfo
) -> tuple[list[Object], list[Problem]]:
    """Clip boxes to the image, and say of which nothing remains or nothing can be seen."""
    kept, problems = [], []
    for item in objects:
        clipped = _clip(item, info)
        where = f"{item.text} in an image of {info.width}x{info.height}"
        if kind := _unusable(clipped, info):
            problems.append(Problem(file, item.index, kind, where, "image"))
            continue
        if _overhang(item, info) > TOLERANCE:
            problems.append(Problem(file, item.index, "clipped", where, "nothing"))
        kept.append(clipped)
    return kept, problems


def _unusable(clipped: Object, info: ImageInfo) -> Kind | None:
    """What is wrong with what remains of a box in its image, if that is too little."""
    x1, y1, x2, y2 = np.asarray(clipped.box_xyxy, np.float32)  # as it is stored
    if x2 <= x1 or y2 <= y1:
        return "outside the image"
    if min(x2 - x1, y2 - y1) >= LEAST_SIDE:
        return None
    shares = max(x2, y2) <= 1 and min(info.width, info.height) >= SHARES_FROM
    return "shares, not pixels" if shares else "under a pixel"


def _clip(item: Object, info: ImageInfo) -> Object:
    edges = np.clip(item.box_xyxy, 0, [info.width, info.height] * 2).tolist()
    return dataclasses.replace(item, box_xyxy=tuple(edges))


def _outside_labels(item: Item, labels: tuple[str, ...]) -> list[Problem]:
    return [
        Problem(
            item.file,
            obj.index,
            "unknown class",
            f"expected one of {', '.join(labels)}, found {obj.label!r}",
            "box",
        )
        for obj in item.objects
        if obj.label not in labels
    ]


def _annotation(item: Item, labels: tuple[str, ...]) -> list[Annotation]:
    """The item as an annotation; none where it is left out."""
    if item.info is None or item.image_path is None:
        return []
    objects = [obj for obj in item.objects if obj.label in labels]
    annotation = Annotation(
        image_id=item.image_id,
        image_path=item.image_path,
        width=item.info.width,
        height=item.info.height,
        boxes_xyxy=np.array([obj.box_xyxy for obj in objects], np.float32).reshape(-1, 4),
        labels=tuple(obj.label for obj in objects),
        difficult=np.array([obj.difficult for obj in objects], bool),
        truncated=np.array([obj.truncated for obj in objects], bool),
    )
    return [annotation]
