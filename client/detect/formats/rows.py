"""Detections as text files of one line each: JSON Lines and CSV."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from client.detect.journal import Entry

COLUMNS = ("file", "width", "height", "label", "class_id", "score", "x1", "y1", "x2", "y2")


def write_jsonl(entries: Iterable[Entry], path: Path) -> None:
    """Write an object per photo: `file`, and the result's fields or `error`."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(entry)}\n" for entry in entries)


def write_csv(entries: Iterable[Entry], path: Path) -> None:
    """Write a row per detection, under a header; boxes in pixels of the upright photo."""
    # surrogateescape: file names may be any bytes.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for entry in entries:
            for found in entry.get("detections", ()):
                values = {**entry, **found, **found["box"]}
                table.writerow([values[column] for column in COLUMNS])
