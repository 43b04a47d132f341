"""Detections as COCO JSON: a document of its own, or results with the ids of another one.

A document has `images`, `categories` and `annotations`, as annotated photos do, with a `score` on
each annotation: pycocotools' `COCO` opens it, and so does training. Results are the list that
`COCO.loadRes` takes: `image_id`, `category_id`, `bbox`, `score`, with the ids of the document that
holds the truth. In both a bbox is x, y, width, height in pixels of the upright photo, from 0.

Format: https://cocodataset.org/#format-data, https://cocodataset.org/#format-results
"""

import json
import os
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from client.detect.formats.dataset import labels_of, usable
from client.detect.journal import Entry
from client.errors import DetectorError, InvalidParameter


@dataclass(frozen=True)
class Ids:
    """Image ids by the parts of their file_name, category ids by name."""

    images: dict[tuple[str, ...], int | str]
    categories: dict[str, int | str]

    def image(self, photo: str | Path) -> int | str | None:
        """Return the id of the image whose file_name is the end of the photo's path, the longest.

        With and without links followed: annotations may name either. None where there is none.
        """
        paths = os.path.abspath(photo), os.path.realpath(photo)  # noqa: PTH100 (not for links)
        ends = (path[at:] for path in (Path(p).parts for p in paths) for at in range(len(path)))
        return next((self.images[end] for end in ends if end in self.images), None)


def read_ids(path: Path) -> Ids:
    """Read the ids of a COCO document.

    Raises:
        InvalidParameter: it cannot be read, is no COCO, or two images have one file_name.
    """
    try:
        content = json.loads(path.read_bytes())
        images = {_parts(row["file_name"]): row["id"] for row in content["images"]}
        categories = {row["name"]: row["id"] for row in content["categories"]}
    except OSError as error:
        raise InvalidParameter(f"--coco-ids {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidParameter(
            f"--coco-ids {path}: expected COCO's JSON, with images that have an id and a "
            "file_name and categories that have an id and a name"
        ) from None
    if len(images) < len(content["images"]):
        raise InvalidParameter(f"--coco-ids {path}: several images have one file_name")
    return Ids(images, categories)


def write_document(entries: Iterable[Entry], path: Path, folder: Path) -> None:
    """Write a document; each file_name as seen from the folder that it is going to be in."""
    labels = labels_of(entries)
    with path.open("w", encoding="utf-8") as file:
        file.write('{"images": ')
        _write_list(file, _images(entries, folder))
        file.write(', "annotations": ')
        _write_list(file, _annotations(entries))
        file.write(', "categories": ')
        _write_list(file, ({"id": n + 1, "name": labels[n]} for n in sorted(labels)))
        file.write("}\n")


def write_results(entries: Iterable[Entry], path: Path, ids: Ids) -> None:
    """Write the results; labels that are no category are left out, as nothing could count them.

    Raises:
        DetectorError: none of the labels is a category.
    """
    labels = set(labels_of(entries).values())
    if labels and labels.isdisjoint(ids.categories):
        raise DetectorError(
            f"none of the labels found ({', '.join(sorted(labels))}) is a category of --coco-ids "
            f"({', '.join(sorted(ids.categories))})"
        )
    with path.open("w", encoding="utf-8") as file:
        _write_list(file, _results(entries, ids))
        file.write("\n")


def _images(entries: Iterable[Entry], folder: Path) -> Iterator[dict[str, Any]]:
    for number, entry in enumerate(usable(entries), 1):
        name, size = _seen_from(folder, entry["file"]), (entry["width"], entry["height"])
        yield {"id": number, "file_name": name, "width": size[0], "height": size[1]}


def _annotations(entries: Iterable[Entry]) -> Iterator[dict[str, Any]]:
    ids = count(1)
    for number, entry in enumerate(usable(entries), 1):
        for found in entry["detections"]:
            bbox = _bbox(found)
            yield {
                "id": next(ids),
                "image_id": number,
                "category_id": found["class_id"] + 1,
                "bbox": bbox,
                "area": bbox[2] * bbox[3],
                "iscrowd": 0,
                "score": found["score"],
            }


def _results(entries: Iterable[Entry], ids: Ids) -> Iterator[dict[str, Any]]:
    for entry in usable(entries):
        for found in entry["detections"]:
            if found["label"] in ids.categories:
                yield {
                    "image_id": ids.image(entry["file"]),
                    "category_id": ids.categories[found["label"]],
                    "bbox": _bbox(found),
                    "score": found["score"],
                }


def _bbox(found: dict[str, Any]) -> list[float]:
    box = found["box"]
    return [box["x1"], box["y1"], box["x2"] - box["x1"], box["y2"] - box["y1"]]


def _write_list(file: TextIO, rows: Iterable[Any]) -> None:
    """Write JSON's list, a row a line, without holding it."""
    file.write("[")
    for place, row in enumerate(rows):
        file.write(f"{',' if place else ''}\n{json.dumps(row)}")
    file.write("\n]")


def _seen_from(folder: Path, photo: str) -> str:
    """Return a photo's path from a folder on; links to folders are followed, as `..` does."""
    parent, name = os.path.split(photo)
    real = os.path.join(os.path.realpath(parent), name)  # noqa: PTH118 (both are text)
    return Path(os.path.relpath(real, os.path.realpath(folder))).as_posix()


def _parts(file_name: str) -> tuple[str, ...]:
    """Return a file_name's parts, without the way up that it may begin with."""
    parts = PurePosixPath(posixpath.normpath(file_name)).parts
    return tuple(part for part in parts if part not in ("..", "/"))
