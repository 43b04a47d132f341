"""Reads a Pascal VOC folder.

In: an XML file an image, paired with it by name wherever both lie: DIRECTORY/Annotations/ID.xml and
DIRECTORY/JPEGImages/ID.jpg (VOC's own layout), `images` and `annotations` or `annots`, beside each
other, below folders of their own. DIRECTORY/ImageSets/Main/SPLIT.txt names the splits, an image a
line; where there is none, folders called train, valid, test and the like do; else all is one split.
An image is found by its name, never by a path written in the XML, and XML entities are refused.

VOC counts pixels from 1 and includes the last one; boxes here have edges that count from 0.

Format: "The PASCAL VOC2012 Challenge Development Kit", annotation of bounding boxes.
"""

import collections
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from training.data import files
from training.data.annotations import Content, Entry
from training.data.decoding import ImageInfo
from training.data.files import ALL, IMAGE_SUFFIXES
from training.data.formats import annotated_folder
from training.data.formats.annotated_folder import left_out
from training.data.formats.values import parse_objects
from training.data.formats.voc_xml import (
    claimed_size,
    is_annotation,
    parse_annotation,
    parse_object,
)
from training.data.problems import BadSplitError, DataError, Problem, brief

LAYOUT = "Annotations/ID.xml and JPEGImages/ID.jpg, or ID.xml wherever it lies below the folder"
PARTS = ("Annotations", "JPEGImages")  # VOC's own
# Folders whose names say what lies in them, not which images it belongs to.
ROLES = (
    *("annotations", "annotation", "annots", "anns", "xml", "xmls", "labels", "label"),
    *("jpegimages", "images", "image", "imgs", "img", "photos", "pictures"),
)
SAMPLE = 3  # XML files that are opened to know whether they are annotations


def fits(directory: Path) -> bool:
    """Whether a folder has this layout."""
    paths = files.files_below(directory, (".xml",))
    return is_vocs(directory) or any(is_annotation(path) for path in paths[:SAMPLE])


def is_vocs(directory: Path) -> bool:
    """Whether it is laid out as VOC itself is."""
    return all((directory / part).is_dir() for part in PARTS)


class Folder(annotated_folder.AnnotatedFolder):
    """A Pascal VOC folder, whose images and annotations are known by a key that both have.

    It is their path from here on, without suffix and without the folders of `ROLES`: day0/img_1 is
    Annotations/day0/img_1.xml and JPEGImages/day0/img_1.jpg.

    Raises:
        DataError: two of its lists are the same split.
    """

    format = "Pascal VOC"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        if not fits(directory):
            raise DataError(f"{directory}: not a Pascal VOC folder; expected {LAYOUT}")
        own = is_vocs(directory)
        self._xml_folder = "Annotations/" if own else ""  # where messages say that one is missing
        xmls, images = (directory / part if own else directory for part in PARTS)
        self._xmls = self._by_key(files.files_below(xmls, (".xml",)))
        self._images = self._by_key(files.files_below(images, IMAGE_SUFFIXES))
        self._pair_by_name()
        if not own:
            self._forget_other_pictures()
        self._by_name = collections.defaultdict(list)
        for key in {**self._xmls, **self._images}:
            self._by_name[_name(key)].append(key)
        self._lists = self._find_lists()

    def _by_key(self, paths: list[Path]) -> dict[str, list[Path]]:
        found = collections.defaultdict(list)
        for path in paths:
            found[_key(self.relative(path))].append(path)
        return dict(found)

    def _pair_by_name(self) -> None:
        """Give an annotation and an image of one name one key, where nothing else has the name."""
        for xml_keys, image_keys in _alone(self._xmls, self._images):
            if len(xml_keys) == len(image_keys) == 1:
                xml_key, image_key = xml_keys[0], image_keys[0]
                key = image_key if _split(image_key) else xml_key
                self._xmls[key] = self._xmls.pop(xml_key)
                self._images[key] = self._images.pop(image_key)

    def _forget_other_pictures(self) -> None:
        """Masks and pictures for a README lie in folders none of whose pictures is annotated."""
        tops = {self._top(key) for key in self._images if key in self._xmls}
        for key in [key for key in self._images if key not in self._xmls]:
            top = self._top(key)
            if top not in tops and not files.split_name(top, ""):
                del self._images[key]

    def _top(self, key: str) -> str:
        """The first folder on the way to an image."""
        return self.relative(self._images[key][0]).rpartition("/")[0].partition("/")[0]

    def _find_lists(self) -> dict[str, str]:
        """The list of each split, without VOC's per-class lists (`ID 1`, `ID -1`)."""
        lists: dict[str, str] = {}
        folders = (self.directory / "ImageSets/Main", self.directory / "ImageSets")
        paths = next(filter(None, (sorted(folder.glob("*.txt")) for folder in folders)), [])
        for path in paths:
            if self._is_class_list(path):
                continue
            split = files.SPLIT_WORDS.get(path.stem.lower(), path.stem)
            if split in lists:
                both = f"{lists[split]} and {self.relative(path)}"
                raise DataError(f"{self.directory}: {both} are both the split {split}")
            lists[split] = self.relative(path)
        return lists

    def _is_class_list(self, path: Path) -> bool:
        """Whether each line ends as VOC's do, and none is the whole name of an image."""
        if path.stem.lower() in files.SPLIT_WORDS or not self.within(path):
            return False
        try:
            lines = [line.strip() for line in files.read_lines(path) if line.strip()]
        except DataError:
            return False  # image_ids says what is wrong with it
        fitting = all(line.split()[1:] and line.split()[-1] in ("-1", "0", "1") for line in lines)
        return bool(lines) and fitting and not any(self._find(line) for line in lines)

    def splits(self) -> list[str]:
        """Of the lists in ImageSets; else of the folders that a split's name is in."""
        keys = {**self._xmls, **self._images}
        return list(self._lists or dict.fromkeys(filter(None, map(_split, keys)))) or [ALL]

    def image_ids(self, split: str) -> list[str]:
        """What a split names, in its order, repeated ones included.

        Raises:
            BadSplitError: it is missing, empty or not text.
        """
        if split in self._lists:
            return self._listed(self._lists[split])
        if split not in self.splits():
            message = f"no such split; splits here: {', '.join(self.splits())}"
            raise BadSplitError(self.directory, f"ImageSets/Main/{split}.txt", message)
        keys = sorted({**self._xmls, **self._images})
        if not keys:
            raise BadSplitError(self.directory, "Annotations", "no annotation in there")
        return [key for key in keys if split in (ALL, _split(key))]

    def _listed(self, file: str) -> list[str]:
        try:
            if not self.within(self.directory / file):
                raise DataError("a link that leaves the folder; put a copy of it in its place")
            lines = files.read_lines(self.directory / file)
        except DataError as error:
            raise BadSplitError(self.directory, file, str(error)) from error
        names = [line.strip() for line in lines if line.strip()]
        if not names:
            message = "the split names no image; expected one image id a line"
            raise BadSplitError(self.directory, file, message)
        return [self._find(name) or name.replace("\\", "/") for name in names]

    def _find(self, name: str) -> str | None:
        """The key that a line of a list means: an id, a file, or a path."""
        path = name.replace("\\", "/")
        bare = path.rpartition(".")[0] if path.lower().endswith(IMAGE_SUFFIXES) else path
        for key in (path, bare, _key(f"{bare}.")):
            if key in self._xmls or key in self._images:
                return key
        named = self._by_name.get(bare, [])
        return named[0] if len(named) == 1 else None

    def entries(self, split: str) -> tuple[list[Entry], list[Problem]]:
        counts = collections.Counter(self.image_ids(split))
        file = self._lists.get(split, ".")
        problems = [
            Problem(file, None, "duplicate id", f"{name!r} stands {n} times, read once", "nothing")
            for name, n in counts.items()
            if n > 1
        ]
        return [self._entry(key) for key in counts], problems

    def _entry(self, key: str) -> Entry:
        xmls, images = self._xmls.get(key, []), self._images.get(key, [])
        image_id, file = _name(key), f"{self._xml_folder}{key}.xml"
        if key.startswith("/") or ".." in key.split("/") or not key.isprintable():
            message = "an image id is a file's name or a path within the folder"
            return left_out(image_id, file, f"id {brief(key)}", "bad id", message)
        if not xmls:
            message = (
                "there is no such file; an image without objects needs an annotation without "
                "<object>"
            )
            return left_out(image_id, file, file, "missing annotation", message)
        file = self.relative(xmls[0])
        if not images:
            message = f"there is no image {key} with a suffix of {', '.join(IMAGE_SUFFIXES)}"
            return left_out(image_id, file, file, "missing image", message)
        for kind, paths in (("images", images), ("annotations", xmls)):
            if len(paths) > 1:
                message = f"one id, several {kind}: {self._names(paths)}"
                return left_out(image_id, file, file, "duplicate id", message)
        return self.entry(image_id, file, images[0])

    def _names(self, paths: list[Path]) -> str:
        places = {path.parent for path in paths}
        return " and ".join(p.name if len(places) == 1 else self.relative(p) for p in paths)

    def content(self, entry: Entry, info: ImageInfo) -> Content:
        try:
            root = parse_annotation(self.directory / entry.file)
        except DataError as error:
            problem = Problem(entry.file, None, "bad XML", str(error), "image")
            return Content(problems=(problem,))
        records = enumerate(root.findall("object"))
        return Content(claimed_size(root), *parse_objects(records, entry.file, parse_object))

    def strays(self) -> list[Problem]:
        """Annotations without image that no split names, what lies outside of the folders of
        splits, and pictures that are not read.
        """
        named: set[str] = set()
        for split in self.splits():
            with suppress(BadSplitError):  # reading that split says so
                named |= set(self.image_ids(split))
        keys = self._xmls if self._lists else {**self._xmls, **self._images}
        found = [key for key in sorted(keys) if key not in named]
        if self._lists:
            found = [key for key in found if key not in self._images]
        message = "no split names it, and there is no image of that name"
        if not self._lists:
            message = f"it lies in no folder of a split; those here are {', '.join(self.splits())}"
        return [
            *(
                Problem(self.relative(path), None, "missing image", message, "image")
                for key in found
                for path in (self._xmls.get(key) or self._images[key])
            ),
            *self.not_read(self.directory),
        ]


def _key(path: str) -> str:
    *folders, name = path.rpartition(".")[0].split("/")
    return "/".join([*(part for part in folders if part.lower() not in ROLES), name])


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _split(key: str) -> str:
    """The split that the first folder with a split's name tells; empty where none does."""
    names = (files.split_name(part, "") for part in key.split("/")[:-1])
    return next(filter(None, names), "")


def _alone(*keys: Iterable[str]) -> Iterator[tuple[list[str], list[str]]]:
    """The keys of each side that the other does not have, by the name of their files."""
    sides = [set(side) for side in keys]
    names = sorted({_name(key) for key in sides[0] ^ sides[1]})
    alone: list[dict[str, list[str]]] = [collections.defaultdict(list) for _ in sides]
    for side, other, found in zip(sides, sides[::-1], alone, strict=True):
        for key in side - other:
            found[_name(key)].append(key)
    return ((alone[0].get(name, []), alone[1].get(name, [])) for name in names)
