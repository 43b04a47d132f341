"""Drafts as a folder that CVAT, Label Studio and labelImg open, and that training reads.

    voc     JPEGImages/a.jpg, Annotations/a.xml and ImageSets/Main/train.txt; whole pixels, the
            score in <confidence>, which readers of VOC pass over
    coco    images/a.jpg and annotations/instances_default.json; `score` in each annotation
    yolo    images/a.jpg, labels/a.txt, and the class names in classes.txt (Label Studio) and
            labels/classes.txt (labelImg); no scores, for a sixth number is refused by most readers

A photo is the same file under a second name, or a copy where it lies on another disk.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np

from training.data.coco_export import to_coco
from training.data.formats.voc_writer import encode_voc
from training.errors import TrainingError
from training.labelling.drafts import Draft

Format = Literal["voc", "coco", "yolo"]
_SMALLEST_SIDE = 2  # whole pixels; with one, xmin and xmax are equal, and there is no area
_NAME_BYTES = 200  # file systems hold 255, and a number and another suffix may follow


def check_absent(output: Path) -> None:
    """Refuse a folder that is there.

    Raises:
        TrainingError: it is.
    """
    if output.exists():
        raise TrainingError(f"{output} exists already: choose another --output")


@contextmanager
def make_folder(output: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when all is written.

    Raises:
        TrainingError: there is one of that name.
    """
    check_absent(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as beside:
        folder = Path(beside) / "folder"
        folder.mkdir()
        yield folder
        check_absent(output)
        folder.rename(output)


def name_photos(photos: Iterable[Path], root: Path) -> list[str]:
    """A flat file name for each photo: its path from the root on, with - between the parts.

    No two differ only in their suffix or in capitals, and all are printable: boxes are found by
    them.
    """
    taken = {"classes"}  # where that photo's boxes would be, YOLO has the names of the classes
    names = []
    for photo in photos:
        stem, suffix = _flatten(photo.relative_to(root)), photo.suffix
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(f"{name}{suffix}")
    return names


def _flatten(path: Path) -> str:
    text = "-".join(path.with_suffix("").parts)
    text = "".join(c if c.isprintable() and c != "\\" else "_" for c in text).strip()
    return text.encode()[-_NAME_BYTES:].decode(errors="ignore")


def write_drafts(
    named: Mapping[str, Draft], labels: Sequence[str], folder: Path, form: Format
) -> None:
    """Write photos and boxes into a folder that is there.

    Args:
        named: the drafts by the file names that the photos get.
        labels: of the model, in the order of their ids.
        folder: to write into.
        form: the format of the boxes.
    """
    images = folder / ("JPEGImages" if form == "voc" else "images")
    images.mkdir()
    for name, draft in named.items():
        _add_photo(draft.annotation.image_path, images / name)
    _WRITERS[form](named, labels, folder)


def _add_photo(photo: Path, target: Path) -> None:
    real = os.path.realpath(photo)  # a second name of a link would be one more link
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)


def _write_voc(named: Mapping[str, Draft], labels: Sequence[str], folder: Path) -> None:
    for part in ("Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for name, draft in named.items():
        a = draft.annotation
        boxes = _to_whole_pixels(a.boxes_xyxy, np.array([a.width, a.height]))
        xml = encode_voc(name, (a.height, a.width), boxes, a.labels, draft.scores)
        (folder / f"Annotations/{Path(name).stem}.xml").write_bytes(xml)
    ids = "".join(f"{Path(name).stem}\n" for name in named)
    (folder / "ImageSets/Main/train.txt").write_text(ids, encoding="utf-8")


def _to_whole_pixels(boxes_xyxy: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Boxes [N, 4] in a photo of width and height [2], each side _SMALLEST_SIDE or more."""
    low = np.clip(np.rint(boxes_xyxy[:, :2]), 0, size - _SMALLEST_SIDE)
    high = np.clip(np.rint(boxes_xyxy[:, 2:]), low + _SMALLEST_SIDE, size)
    return np.concatenate([low, high], axis=1)


def _write_coco(named: Mapping[str, Draft], labels: Sequence[str], folder: Path) -> None:
    content = to_coco([draft.annotation for draft in named.values()], list(named), labels)
    scores = (score for draft in named.values() for score in draft.scores.tolist())
    for row, score in zip(content["annotations"], scores, strict=True):
        row["score"] = score
    (folder / "annotations").mkdir()
    text = json.dumps(content, indent=1)
    (folder / "annotations/instances_default.json").write_text(text, encoding="utf-8")


def _write_yolo(named: Mapping[str, Draft], labels: Sequence[str], folder: Path) -> None:
    (folder / "labels").mkdir()
    names = "".join(f"{label}\n" for label in labels)
    for place in ("classes.txt", "labels/classes.txt"):
        (folder / place).write_text(names, encoding="utf-8")
    for name, draft in named.items():
        a = draft.annotation
        shares = a.boxes_xyxy / np.array([a.width, a.height] * 2)
        middles, sides = (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]
        rows = zip(a.labels, np.concatenate([middles, sides], axis=1).tolist(), strict=True)
        lines = (
            " ".join([str(labels.index(label)), *(f"{x:.6f}" for x in numbers)])
            for label, numbers in rows
        )
        text = "".join(f"{line}\n" for line in lines)
        (folder / f"labels/{Path(name).stem}.txt").write_text(text, encoding="utf-8")


_WRITERS: dict[Format, Callable[[Mapping[str, Draft], Sequence[str], Path], None]] = {
    "voc": _write_voc,
    "coco": _write_coco,
    "yolo": _write_yolo,
}
