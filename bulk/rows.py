"""What became of a part's photos, as a Parquet file: a row a photo, in the order of the listing."""

import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from client.detection import Result
from serving.errors import StoreError

# Where there is an error, all that depends on a result is null; where nothing was found, the lists
# are empty. docs/bulk.md describes the columns.
SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("model", pa.string()),
        ("version", pa.string()),
        ("boxes", pa.list_(pa.list_(pa.float32()))),
        ("labels", pa.list_(pa.string())),
        ("class_ids", pa.list_(pa.int32())),
        ("scores", pa.list_(pa.float32())),
        ("error", pa.string()),
    ]
)


class Counts(NamedTuple):
    """A part's photos, and how many of them are rows with an error."""

    photos: int
    failed: int


def make_row(path: str, sha256: str | None, outcome: Result | str, version: str | None) -> dict:
    """Return a photo's row.

    Args:
        path: below the place of the photos.
        sha256: of the bytes that were read; None: none were.
        outcome: the result, or what was wrong.
        version: of the network, where it is known.
    """
    row: dict[str, Any] = {"path": path, "sha256": sha256}
    if isinstance(outcome, str):
        return row | {"error": outcome}
    found = outcome.detections
    return row | {
        "width": outcome.width,
        "height": outcome.height,
        "model": outcome.model,
        "version": version,
        "boxes": [(each.box.x1, each.box.y1, each.box.x2, each.box.y2) for each in found],
        "labels": [each.label for each in found],
        "class_ids": [each.class_id for each in found],
        "scores": [each.score for each in found],
    }


def write_rows(rows: Sequence[dict], listing: str) -> bytes:
    """Return the file of these rows; `listing` is the digest of the one that they belong to."""
    failed = sum("error" in row for row in rows)
    schema = SCHEMA.with_metadata({"part": json.dumps({"failed": failed, "listing": listing})})
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer, compression="zstd")
    return buffer.getvalue()


def count_rows(data: bytes, listing: str, photos: int, name: str) -> Counts:
    """Return what a part's file says of itself.

    Raises:
        StoreError: it is not the file of this part of this listing.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        said = json.loads(file.schema_arrow.metadata[b"part"])
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        said = {}
    if said.get("listing") != listing or file.metadata.num_rows != photos:
        raise StoreError(
            f"{name} is damaged, or of another run: delete it, and the same command makes it anew"
        )
    return Counts(photos, said["failed"])
