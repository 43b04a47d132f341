"""Reads a folder in YOLO's text format.

In: the class names in DIRECTORY/data.yaml, or a line each in classes.txt (Label Studio, LabelImg)
or obj.names (CVAT); images, and beside each `images` folder one of `labels` with a text file an
image: images/SPLIT/a.jpg and labels/SPLIT/a.txt (Ultralytics), SPLIT/images/a.jpg and
SPLIT/labels/a.txt (Roboflow), or images/a.jpg and labels/a.txt. Where there is no `images`, the
text files lie beside the images: a.jpg and a.txt (LabelImg, CVAT's obj_train_data). Where the
`train`, `val` and `test` of data.yaml or obj.data name folders or lists within DIRECTORY, those are
the splits; else the folders' names are.

A line is `class cx cy width height`, 0..1 of the upright image, or `class x1 y1 x2 y2 x3 y3 ...`,
a polygon, whose bounding box is taken. An image without a text file is one without objects; as an
annotation may just have been lost, that is told.

Format: https://docs.ultralytics.com/datasets/detect/ and /segment/
"""

import collections
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.data import files
from training.data.annotations import Content, Entry, Object
from training.data.decoding import ImageInfo
from training.data.files import ALL, IMAGE_SUFFIXES
from training.data.formats import annotated_folder
from training.data.formats.annotated_folder import left_out
from training.data.formats.values import check_area, finite, parse_objects
from training.data.formats.yolo_names import class_names, names_file, parse_yaml, yaml_file
from training.data.problems import (
    BadObjectError,
    BadSplitError,
    DataError,
    Problem,
    UnknownClassError,
    brief,
)

LAYOUT = (
    "data.yaml, classes.txt or obj.names, and images/SPLIT/a.jpg with labels/SPLIT/a.txt, "
    "SPLIT/images/a.jpg with SPLIT/labels/a.txt, or a.jpg with a.txt"
)
SETTINGS = "obj.data"  # Darknet's: `train = data/train.txt`
TEXT_LIMIT = 16 * 2**20  # bytes of one image's text file
SPLIT_KEYS = ("train", "val", "valid", "validation", "test")


def fits(directory: Path) -> bool:
    """Whether a folder has this layout."""
    path = yaml_file(directory)
    if path is not None and (path.stem == "data" or _images_folders(directory)):
        return True
    return names_file(directory) is not None and any(_label_files(directory))


def _label_files(directory: Path) -> Iterator[Path]:
    """The text files that are an image's by their place, whether there is one or not."""
    for pattern in ("labels/**/*.txt", "*/labels/**/*.txt", "obj_*_data/**/*.txt"):
        yield from (path for path in directory.glob(pattern) if path.name != "classes.txt")
    beside = {path.stem for path in directory.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
    yield from (path for path in directory.glob("*.txt") if path.stem in beside)


def _images_folders(directory: Path) -> list[Path]:
    paths = [directory / "images", *directory.glob("*/images")]
    return sorted(path for path in paths if path.is_dir())


class Folder(annotated_folder.AnnotatedFolder):
    """A YOLO folder.

    Raises:
        DataError: the class names are missing or not usable.
    """

    format = "YOLO"

    def __init__(self, directory: Path) -> None:
        super().__init__(Path(os.path.normpath(directory)))
        path = yaml_file(directory) or names_file(directory)
        if path is None:
            message = "no class names; write them into classes.txt, one a line, in their order"
            raise DataError(f"{directory}: not a YOLO folder, {message}; expected {LAYOUT}")
        self._file = self.relative(self.directory / path.relative_to(directory))
        try:
            if not self.within(path):
                raise DataError("a link that leaves the folder; put a copy of it in its place")
            settings = parse_yaml(path) if path.suffix in (".yaml", ".yml") else self._plain(path)
            self._labels = class_names(settings)
            self._sources = self._layout() | self._named(settings)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def _plain(self, path: Path) -> dict[str, Any]:
        """What data.yaml would say, from a list of names and Darknet's `key = value`."""
        settings: dict[str, Any] = {}
        if files.is_file(self.directory / SETTINGS) and self.within(self.directory / SETTINGS):
            lines = files.read_lines(self.directory / SETTINGS)
            pairs = (line.partition("=")[::2] for line in lines)
            settings = {key.strip(): value.strip() for key, value in pairs}
        return settings | {"names": "\n".join(files.read_lines(path)).strip().split("\n")}

    def splits(self) -> list[str]:
        return list(self._sources)

    def _layout(self) -> dict[str, list[Path | str]]:
        """The folders of images by the split that their names tell."""
        found: dict[str, list[Path | str]] = {}
        folders = [*self.directory.glob("images/*"), *self.directory.glob("*/images")]
        for path in sorted(path for path in set(folders) if path.is_dir()):
            name = path.parent.name if path.name == "images" else path.name
            found.setdefault(files.split_name(name, name), []).append(path)
        if set(found) & set(files.SPLIT_WORDS.values()):
            return found
        return {ALL: [*(_images_folders(self.directory) or [self.directory])]}

    def _named(self, settings: dict[str, Any]) -> dict[str, list[Path | str]]:
        """The folders and lists that data.yaml names; what is not there stays text."""
        layout, named = self._layout(), {}
        for key in SPLIT_KEYS:
            split, values = files.SPLIT_WORDS[key], settings.get(key) or []
            values = [values] if isinstance(values, str) else values
            if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
                raise DataError(f"{key}: expected a folder, a list file, or several of them")
            paths = [self._resolve(value, settings.get("path")) for value in values]
            if paths and (split not in layout or all(isinstance(p, Path) for p in paths)):
                named[split] = paths
        return named

    def _resolve(self, value: str, base: object) -> Path | str:
        """Where within the folder a path of data.yaml leads, or the text where it does not.

        Roboflow writes `../train/images` and means `train/images`, CVAT `data/train.txt` and means
        `train.txt`; `path` is often that of the machine where the folder was made.
        """
        bare = value.removeprefix("../").removeprefix("data/")
        tried = [f"{base}/{value}", value, bare] if isinstance(base, str) else [value, bare]
        for text in tried:
            path = Path(os.path.normpath(self.directory / text))
            if path.is_relative_to(self.directory) and (path.is_dir() or files.is_file(path)):
                return path
        return value

    def entries(self, split: str) -> tuple[list[Entry], list[Problem]]:
        if split not in self._sources:
            message = f"no split {split}; splits here: {', '.join(self.splits())}"
            raise BadSplitError(self.directory, self._file, message)
        paths = [path for source in self._sources[split] for path in self._images(split, source)]
        if not paths:
            message = f"the split {split} has no image with a suffix of {', '.join(IMAGE_SUFFIXES)}"
            raise BadSplitError(self.directory, self._file, message)
        folders = [s for s in self._sources[split] if isinstance(s, Path) and s.is_dir()]
        problems = [flaw for folder in folders for flaw in self.not_read(folder)]
        problems += [
            Problem(
                name, None, "duplicate id", f"stands {n} times in {split}, read once", "nothing"
            )
            for name, n in collections.Counter(self._name(path) for path in paths).items()
            if n > 1
        ]
        by_label_file = collections.defaultdict(list)
        for path in dict.fromkeys(paths):
            by_label_file[self._label_file(path)].append(path)
        return [self._entry(file, images) for file, images in by_label_file.items()], problems

    def _images(self, split: str, source: Path | str) -> list[Path]:
        if isinstance(source, str):
            message = f"{split}: {brief(source)} is no folder or list within {self.directory}"
            raise BadSplitError(self.directory, self._file, message)
        if source.is_dir():
            return _images_below(source)
        try:
            lines = files.read_lines(source) if self.within(source) else []
        except DataError as error:
            raise BadSplitError(self.directory, self.relative(source), str(error)) from error
        # Ultralytics: `./` is the list's own folder; a path from here on is common, too.
        parents = {True: source.parent, False: self.directory}
        names = [line.strip().replace("\\", "/") for line in lines if line.strip()]
        paths = [Path(os.path.normpath(parents[n.startswith("./")] / n)) for n in names]
        if any(files.is_file(path) for path in paths):
            return paths
        # A list that was made elsewhere: CVAT's begins with data/, others with a whole machine.
        ends = [files.find_file(name, [self.directory], ends=True) for name in names]
        return [end or path for end, path in zip(ends, paths, strict=True)]

    def _name(self, path: Path) -> str:
        return self.relative(path) if path.is_relative_to(self.directory) else str(path)

    def _label_file(self, image_path: Path) -> str:
        """Ultralytics' rule: the last `images` of the path becomes `labels`."""
        parts = self._name(image_path.with_suffix(".txt")).split("/")
        places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
        return "/".join(
            "labels" if place in places[-1:] else part for place, part in enumerate(parts)
        )

    def _entry(self, file: str, images: list[Path]) -> Entry:
        image_id = images[0].stem
        if len(images) > 1:
            names = " and ".join(path.name for path in images)
            message = f"one id, several images: {names}"
            return left_out(image_id, file, file, "bad image", message)
        if not images[0].is_relative_to(self.directory):
            message = f"{brief(str(images[0]))}: expected a path within the folder"
            return left_out(image_id, file, self._file, "bad id", message)
        if not files.is_file(images[0]):
            message = "the split names it, but there is no such file"
            return left_out(image_id, file, self._name(images[0]), "missing image", message)
        return self.entry(image_id, file, images[0])

    def content(self, entry: Entry, info: ImageInfo) -> Content:
        size, path = (info.width, info.height), self.directory / entry.file
        if not files.is_file(path):
            message = "there is no such file, so the image counts as one without objects"
            problem = Problem(entry.file, None, "missing annotation", message, "nothing")
            return Content(size, problems=(problem,))
        try:
            lines = files.read_lines(path, TEXT_LIMIT)
        except DataError as error:
            problem = Problem(entry.file, None, "bad text", str(error), "image")
            return Content(size, problems=(problem,))
        records = ((index, line) for index, line in enumerate(lines) if line.strip())
        found = parse_objects(
            records, entry.file, lambda line, index: _object(line, index, self._labels, info)
        )
        return Content(size, *found)

    def strays(self) -> list[Problem]:
        """Text files of labels without image."""
        suffixes = (*IMAGE_SUFFIXES, *files.UNREAD_SUFFIXES)
        pictures = (p for p in self.directory.rglob("*") if p.suffix.lower() in suffixes)
        known = {self._label_file(path) for path in pictures}
        names = sorted({self.relative(path) for path in _label_files(self.directory)})
        message = "there is no image of that name in images/"
        return [
            Problem(name, None, "missing image", message, "image")
            for name in names
            if name not in known
        ]


def _images_below(folder: Path) -> list[Path]:
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in paths if files.is_file(path))


def _object(line: str, index: int, labels: dict[int, str], info: ImageInfo) -> Object:
    words = line.split()
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        raise BadObjectError(
            "expected `class cx cy width height` or `class x1 y1 x2 y2 x3 y3 ...`, "
            f"found {len(words)} numbers"
        )
    number, *values = (finite(word, "the line") for word in words)
    if number not in labels:
        there = f"{min(labels)} to {max(labels)}"
        raise UnknownClassError(f"class {words[0][:20]} has no name, those that have are {there}")
    label, text = labels[int(number)], " ".join(words[1:5])[:80]
    x1, y1, x2, y2 = _box(values, text)
    box_xyxy = (x1 * info.width, y1 * info.height, x2 * info.width, y2 * info.height)
    return Object(index, label, box_xyxy, text if len(words) == 5 else f"polygon {text} ...")


def _box(values: list[float], text: str) -> tuple[float, float, float, float]:
    """xyxy, 0..1, of a box or around a polygon."""
    if len(values) == 4:
        cx, cy, width, height = values
        edges = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
    else:
        edges = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
    check_area(edges[2] - edges[0], edges[3] - edges[1], text)
    return edges
