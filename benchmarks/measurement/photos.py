"""Which photos are sent."""

import json
from pathlib import Path


def find_photos(source: Path) -> list[Path]:
    """The JPEGs of a folder, or the photos of a COCO file, in order.

    Raises:
        FileNotFoundError: there are none.
    """
    if source.is_dir():
        found = sorted(p for p in source.iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))
    else:
        images = json.loads(source.read_text())["images"]
        found = [source.parent / image["file_name"] for image in images]
    if not found:
        raise FileNotFoundError(f"{source} has no JPEGs")
    return [path.resolve() for path in found]
