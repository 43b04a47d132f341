import io

import pyarrow.parquet as pq
import pytest

from bulk.rows import SCHEMA, Counts, count_rows, make_row, write_rows
from client.detection import Box, Detection, Result
from serving.errors import StoreError

CELL = Detection("RBC", 1, 0.75, Box(1.5, 2.0, 30.25, 40.0))
ROWS = [
    make_row("empty.jpg", "00", Result((), 640, 480, "ensemble"), "2"),
    make_row("cell.jpg", "11", Result((CELL,), 640, 480, "ensemble"), None),
    make_row("gone.jpg", None, "no such file", "2"),
]


def test_no_photos() -> None:
    data = write_rows([], "digest")
    assert pq.read_table(io.BytesIO(data)).schema.equals(SCHEMA)
    assert count_rows(data, "digest", 0, "part") == Counts(0, 0)


def test_a_row_a_photo() -> None:
    data = write_rows(ROWS, "digest")
    assert count_rows(data, "digest", 3, "part") == Counts(photos=3, failed=1)
    empty, cell, gone = pq.read_table(io.BytesIO(data)).to_pylist()
    assert (empty["boxes"], empty["labels"], empty["error"]) == ([], [], None)
    assert cell == {
        "path": "cell.jpg",
        "sha256": "11",
        "width": 640,
        "height": 480,
        "model": "ensemble",
        "version": None,
        "boxes": [[1.5, 2.0, 30.25, 40.0]],
        "labels": ["RBC"],
        "class_ids": [1],
        "scores": [0.75],
        "error": None,
    }
    assert {name for name, value in gone.items() if value is not None} == {"path", "error"}


@pytest.mark.parametrize("what", ["cut off", "of another run", "of fewer photos", "empty"])
def test_a_file_that_is_not_the_parts_is_told(what: str) -> None:
    data = write_rows(ROWS, "another" if what == "of another run" else "digest")
    photos = 2 if what == "of fewer photos" else 3
    data = {"cut off": data[:-20], "empty": b""}.get(what, data)
    with pytest.raises(StoreError, match="part-1 is damaged, or of another run: delete it"):
        count_rows(data, "digest", photos, "part-1")
