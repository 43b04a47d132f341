"""The files that detections of many photos are written to.

Each writer takes the entries of a journal, in the order of the photos, and reads them as often as
it needs rather than hold them: a run may have any number of photos.
"""

from pathlib import Path
from typing import Literal

from client.errors import InvalidParameter

Format = Literal["jsonl", "coco", "voc", "yolo", "csv"]
SUFFIXES: dict[str, Format] = {".jsonl": "jsonl", ".json": "coco", ".csv": "csv"}


def guess_format(output: Path) -> Format:
    """Return the format that a path's suffix names.

    Raises:
        InvalidParameter: it names none.
    """
    try:
        return SUFFIXES[output.suffix.lower()]
    except KeyError:
        raise InvalidParameter(
            f"--output {output}: name a file ending in {', '.join(SUFFIXES)}, or say what it is "
            "to be with --format; a folder is --format voc or yolo"
        ) from None
