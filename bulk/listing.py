"""The photos of a run, listed once: `_listing.parquet` in the output.

Its row groups are the parts of the run. So which photo belongs to which part never changes, however
often the run is begun anew, and whatever becomes of the photos meanwhile. Its metadata hold the
settings that results depend on.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bulk.errors import UsageError
from bulk.place import Entry
from client.detect.files import SUFFIXES

NAME = "_listing.parquet"  # readers of a folder of Parquet leave out what begins with _
SCHEMA = pa.schema([("path", pa.string()), ("size", pa.int64()), ("stamp", pa.string())])


class Part(NamedTuple):
    """Photos that one worker detects in, and one file of results."""

    number: int
    paths: list[str]

    @property
    def name(self) -> str:
        """Its file."""
        return f"part-{self.number:06}.parquet"


class Changes(NamedTuple):
    """How many photos of a place are others than those listed."""

    added: int
    gone: int
    changed: int


class Listing:
    """A listing as it was written.

    Args:
        data: the file.
        address: of the output, for messages.

    Raises:
        UsageError: the file is no listing.
    """

    def __init__(self, data: bytes, address: str) -> None:
        self._address = address
        self.digest = hashlib.sha256(data).hexdigest()
        try:
            self._file = pq.ParquetFile(io.BytesIO(data))
            self._settings = json.loads(self._file.schema_arrow.metadata[b"settings"])
        except (pa.ArrowException, KeyError, TypeError, ValueError):
            raise UsageError(
                f"{address}/{NAME} is not the listing of a run: move it away, or name another "
                "--output"
            ) from None

    def __len__(self) -> int:
        """How many photos there are."""
        return int(self._file.metadata.num_rows)

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return int(self._file.num_row_groups)

    def iterate_parts(self) -> Iterator[Part]:
        """Yield the parts, one of them held at a time."""
        for number in range(self.parts):
            paths = self._file.read_row_group(number, columns=["path"])["path"]
            yield Part(number, paths.to_pylist())

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse a run with other settings than those that began it.

        Raises:
            UsageError: a setting is another one.
        """
        for name, value in settings.items():
            if (before := self._settings.get(name)) != value:
                raise UsageError(
                    f"{self._address} was begun with {name} {before}, which now is {value}: go on "
                    "with the same, or name another --output"
                )

    def compare(self, entries: Iterable[Entry]) -> Changes:
        """Return what is different by now at the place that was listed; some 100 bytes a photo."""
        now, before = _table(entries), self._file.read()
        there = pc.is_in(now["path"], before["path"])
        same = pc.is_in(_keys(now), _keys(before))
        added = len(now) - _count(there)
        return Changes(added, len(before) - _count(there), _count(there) - _count(same))


def write_listing(entries: Iterable[Entry], settings: Mapping[str, Any], part: int) -> bytes:
    """Return the file that lists these entries, `part` of them in a row group.

    Raises:
        UsageError: a name is not UTF-8.
    """
    buffer, entries = io.BytesIO(), iter(entries)
    schema = SCHEMA.with_metadata({"settings": json.dumps(settings)})
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        while rows := list(islice(entries, part)):
            writer.write_table(_rows(rows), row_group_size=part)
    return buffer.getvalue()


def is_photo(entry: Entry) -> bool:
    """Whether a file is a photo, by its name."""
    return entry.path[entry.path.rfind(".") :].lower() in SUFFIXES


def _table(entries: Iterable[Entry], page: int = 10_000) -> pa.Table:
    entries, tables = iter(entries), []
    while rows := list(islice(entries, page)):
        tables.append(_rows(rows))
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def _rows(rows: list[Entry]) -> pa.Table:
    try:
        return pa.Table.from_pylist([entry._asdict() for entry in rows], SCHEMA)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{error.object!r}: Parquet holds names that are UTF-8, and this is none: rename it"
        ) from None


def _keys(table: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(table["path"], table["stamp"], "/")


def _count(answers: pa.ChunkedArray) -> int:
    return int(pc.sum(answers).as_py() or 0)
