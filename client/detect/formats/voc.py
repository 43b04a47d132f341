"""Detections as a Pascal VOC folder: Annotations/ID.xml and JPEGImages/ID.jpg."""

from collections.abc import Iterable
from pathlib import Path

from client.detect.formats.dataset import add_photo, names_of, usable
from client.detect.journal import Entry
from client.inbox.voc_xml import detected_object, voc_xml


def write_voc(entries: Iterable[Entry], folder: Path) -> None:
    """Write the annotations of all photos with a result, and put the photos beside them."""
    for part in ("Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    names = names_of(entries)
    for entry in usable(entries):
        name = names[entry["file"]]
        add_photo(entry["file"], folder / "JPEGImages" / name)
        objects = (detected_object(found, entry) for found in entry["detections"])
        xml = voc_xml(name, entry["width"], entry["height"], objects)
        (folder / "Annotations" / f"{Path(name).stem}.xml").write_bytes(xml)
