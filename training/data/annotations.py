"""Annotated images whatever their format: a `Dataset` of `Annotation`s and of `Problem`s.

Boxes are in pixels of the upright image (EXIF orientation applied). What a problem is fatal for is
left out, the rest is kept.
"""

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from training.data.decoding import ImageInfo
from training.data.problems import DataError, Problem, describe_problems


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


def make_dataset(
    source: str,
    split: str,
    items: Sequence[Item],
    problems: Iterable[Problem] = (),
    labels: Sequence[str] | None = None,
) -> Dataset:
    """The usable of these images with the boxes of these labels, as `AnnotatedFolder.read`."""
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
