"""What the formats of annotated photos share: class names, and the photos under names of their own.

Training reads such folders: detections can so become pseudo labels, or a first draft of
annotations.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from client.detect.files import Names
from client.detect.journal import Entry
from client.errors import DetectorError

NAME_BYTES = 200  # file systems hold 255, and a number and another suffix may follow


def usable(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries that are results."""
    return (entry for entry in entries if "error" not in entry)


def labels_of(entries: Iterable[Entry]) -> dict[int, str]:
    """Return the labels that were found, by class id.

    Raises:
        DetectorError: one class has two labels, so that these are results of different models.
    """
    labels: dict[int, str] = {}
    for entry in usable(entries):
        for found in entry["detections"]:
            number, label = found["class_id"], found["label"]
            if labels.setdefault(number, label) != label:
                raise DetectorError(
                    f"{entry['file']}: class {number} is {label}, but {labels[number]} in another "
                    "photo, so these are results of two models: delete the journal and run again"
                )
    return labels


def names_of(entries: Iterable[Entry]) -> dict[str, str]:
    """Return a flat file name for each photo with a result: its path with - between the parts.

    The path starts at the folder that holds them all. No two names differ only in their suffix or
    in capitals, and all are printable: a format's files are found by them.
    """
    paths = {
        entry["file"]: os.path.abspath(entry["file"])  # noqa: PTH100 (links are not followed)
        for entry in usable(entries)
    }
    folders = {os.path.dirname(path) for path in paths.values()}  # noqa: PTH120
    root = os.path.commonpath(folders) if folders else ""
    names = Names(lambda path: path.stem.casefold())
    return {
        file: names.free(_flat(Path(path).relative_to(root))).name for file, path in paths.items()
    }


def add_photo(photo: str, target: Path) -> None:
    """Put a photo there: the same file under a second name, or a copy on another file system."""
    real = os.path.realpath(photo)  # a second name of a link would be one more link
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)


def _flat(path: Path) -> Path:
    text = "".join(c if c.isprintable() and c != "\\" else "_" for c in "-".join(path.parts))
    return Path(text.encode()[-NAME_BYTES:].decode(errors="ignore"))
