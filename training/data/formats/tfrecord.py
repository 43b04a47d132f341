"""Reads the TFRecords of the TensorFlow Object Detection API, this project's own and others'.

In: *.record or *.tfrecord anywhere below DIRECTORY, with shards or without; each example holds an
image file and its objects under the keys of `records.FEATURES`, boxes as shares of the
image. The split is what the name of the file or of its folder tells. The API's own scripts divide
Pascal VOC's numbers as they are, so boxes of theirs lie up to a pixel further right and down.

The images have no files of their own, so they are unpacked for as long as the program runs.
TensorFlow, which reads the records, is imported when one is read.

Format: TensorFlow Object Detection API, "Preparing Inputs" (using_your_own_dataset.md)
"""

import atexit
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from training import startup
from training.data import files
from training.data.annotations import Content, Entry, Object
from training.data.decoding import ImageInfo
from training.data.files import IMAGE_SUFFIXES
from training.data.formats import annotated_folder
from training.data.formats.annotated_folder import left_out
from training.data.formats.values import check_area, clean_label, finite, parse_objects
from training.data.problems import BadObjectError, BadSplitError, DataError, Problem, brief

LAYOUT = "*.record or *.tfrecord of the TensorFlow Object Detection API"
NAME = re.compile(r"\.(tf)?records?(-\d+-of-\d+)?$")
OBJECT = "image/object/"
EDGES = tuple(f"{OBJECT}bbox/{edge}" for edge in ("xmin", "ymin", "xmax", "ymax"))


def label_files(directory: Path) -> list[Path]:
    """The files of records."""
    return [path for path in files.files_below(directory) if NAME.search(path.name)]


def fits(directory: Path) -> bool:
    """Whether a folder has this layout."""
    return bool(label_files(directory))


class Folder(annotated_folder.FolderOfFiles):
    """A folder of records."""

    format = "TFRecord"
    what = "TFRecords"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, label_files(directory), LAYOUT)
        self._unpacked = Path(tempfile.mkdtemp(prefix="ssd-records-"))
        atexit.register(shutil.rmtree, self._unpacked, ignore_errors=True)  # data sets outlive this
        self._read_splits: dict[str, list[Entry]] = {}
        self._features: dict[Entry, dict[str, list[Any]]] = {}

    def relative(self, path: Path) -> str:
        if path.is_relative_to(self._unpacked):
            return path.relative_to(self._unpacked).as_posix()
        return super().relative(path)

    def within(self, path: Path) -> bool:
        return path.is_relative_to(self._unpacked) or super().within(path)

    def entries(self, split: str) -> tuple[list[Entry], list[Problem]]:
        self.require_split(split)
        if split not in self._read_splits:
            paths = self._paths[split]
            self._read_splits[split] = [entry for path in paths for entry in self._entries(path)]
        return self._read_splits[split], []

    def _entries(self, path: Path) -> Iterator[Entry]:
        file = self.relative(path)
        try:
            if not self.within(path):
                raise DataError("a link that leaves the folder; put a copy of it in its place")
            index = -1
            for index, features in enumerate(_examples(path)):
                yield self._entry(index, file, features)
            if index < 0:
                raise DataError("not readable as TFRecords of tf.train.Example: there is none")
        except DataError as error:
            raise BadSplitError(self.directory, file, str(error)) from error

    def _entry(self, index: int, file: str, features: dict[str, list[Any]]) -> Entry:
        name = PurePosixPath(_text(features, "image/filename").replace("\\", "/")).name
        name = name if name.isprintable() and name[:1] not in ("", ".") else f"image-{index}"
        known = _text(features, "image/source_id") or name
        image_id = known[: -len(PurePosixPath(known).suffix)] if _has_suffix(known) else known
        encoded = features.pop("image/encoded", None)
        if not encoded or not isinstance(encoded[0], bytes):
            return left_out(image_id, file, file, "bad image", f"example {index}: no image/encoded")
        path = self._unpacked / file / str(index) / name
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded[0])
        entry = self.entry(image_id, file, path)
        self._features[entry] = features
        return entry

    def content(self, entry: Entry, info: ImageInfo) -> Content:
        features = self._features[entry]
        labels = features.get(f"{OBJECT}class/text", [])
        edges = [features.get(key, []) for key in EDGES]
        size = (info.width, info.height)
        if len({len(labels), *map(len, edges)}) > 1:
            message = f"{len(labels)} image/object/class/text, {[*map(len, edges)]} edges of boxes"
            return Content(size, (), (Problem(entry.file, None, "bad object", message, "image"),))
        rows = enumerate(zip(labels, *edges, strict=True))
        flags = [features.get(f"{OBJECT}{name}", []) for name in ("difficult", "truncated")]
        return Content(
            size,
            *parse_objects(rows, entry.file, lambda row, index: _object(row, index, info, flags)),
        )


def _examples(path: Path) -> Iterator[dict[str, list[Any]]]:
    """Each example's features; DataError where the file is damaged or holds none."""
    startup.start_tensorflow()
    import tensorflow as tf  # here: it takes seconds, and other formats do without
    from google.protobuf.message import DecodeError

    try:
        for serialized in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            features = tf.train.Example.FromString(serialized).features.feature
            yield {key: list(_values(value)) for key, value in features.items()}
    except (tf.errors.OpError, DecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"not readable as TFRecords of tf.train.Example: {reason}") from error


def _values(feature: Any) -> Any:
    kind = feature.WhichOneof("kind")
    return getattr(feature, kind).value if kind else ()


def _text(features: dict[str, list[Any]], key: str) -> str:
    value = next(iter(features.get(key, [])), b"")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _has_suffix(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _object(row: tuple[Any, ...], index: int, info: ImageInfo, flags: list[list[Any]]) -> Object:
    name, *shares = row
    if not isinstance(name, bytes):
        raise BadObjectError(f"expected text, found {brief(name)}")
    label = clean_label(name.decode("utf-8", "replace"))
    x1, y1, x2, y2 = (finite(share, "bbox") for share in shares)
    text = f"x {x1:g} to {x2:g}, y {y1:g} to {y2:g}"
    check_area(x2 - x1, y2 - y1, text)
    box_xyxy = (x1 * info.width, y1 * info.height, x2 * info.width, y2 * info.height)
    difficult, truncated = (bool(flag[index]) if index < len(flag) else False for flag in flags)
    return Object(index, label, box_xyxy, text, difficult, truncated)
