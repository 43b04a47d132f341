"""The record of a run over many photos, from which an interrupted run goes on.

A text file. Its first line holds the settings that the results depend on, each further one what
became of a photo, as JSON: `file`, and the fields of `Result.to_dict` or `error`. They stand in the
order in which they became known; of several lines of a photo the last one holds. A line counts once
it has its end: what is left of one that a kill cut off is dropped.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from client.detect.report import Entries
from client.errors import InvalidParameter

Entry = dict[str, Any]


class Journal(Entries):
    """A journal open for writing, begun or gone on with; a `Report`. Holds no results in memory.

    Args:
        path: the file; made where there is none.
        settings: what the results depend on, ready for JSON.

    Raises:
        InvalidParameter: the file was begun with other settings, is no journal, or another run
            writes to it.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._settings = dict(settings)
        self._places: dict[str, int] = {}  # where in the file each photo's line begins
        self._failed: set[str] = set()
        self._file = path.open("a+b")
        try:
            _lock(self._file, path)
            self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Return how many photos have an entry, failed ones too."""
        return len(self._places)

    def done(self, photo: Path) -> bool:
        """Whether the photo has a result."""
        return str(photo) in self._places and str(photo) not in self._failed

    def entries(self, photos: Iterable[Path]) -> Iterator[Entry]:
        """Yield the entries of these photos, all of which must have one, in their order."""
        with self.path.open("rb") as file:
            for photo in photos:
                file.seek(self._places[str(photo)])
                yield json.loads(file.readline())

    def close(self) -> None:
        """End writing. A journal without entries is removed: it has nothing to go on from."""
        self._file.close()
        if not self._places:
            self.remove()

    def remove(self) -> None:
        """End writing and remove the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _add(self, entry: Entry) -> None:
        place = self._file.tell()
        self._write(entry)
        self._note(entry, place)

    def _write(self, line: Entry) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()  # to the system, which keeps it whatever becomes of this process

    def _note(self, entry: Entry, place: int) -> None:
        self._places[entry["file"]] = place
        if "error" in entry:
            self._failed.add(entry["file"])
        else:
            self._failed.discard(entry["file"])

    def _read(self) -> None:
        """Take in what is there, and drop a last line without end."""
        self._file.seek(0)
        header = self._file.readline()
        if not header:
            self._write({"settings": self._settings})
            return
        self._check(header)
        place = len(header)
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            try:
                self._note(json.loads(line), place)
            except (ValueError, KeyError, TypeError):
                raise self._damaged(place) from None
            place += len(line)
        self._file.truncate(place)
        self._file.seek(place)

    def _check(self, header: bytes) -> None:
        try:
            settings = json.loads(header)["settings"]
        except (ValueError, KeyError, TypeError):
            settings = None
        if not isinstance(settings, dict) or not header.endswith(b"\n"):
            raise self._damaged(0)  # or another file, which happens to have the name
        for name, value in self._settings.items():
            if settings.get(name) != value:
                raise InvalidParameter(
                    f"{self.path} was begun with {name} {settings.get(name)}, which now is "
                    f"{value}: go on with the same, or name another --output"
                )

    def _damaged(self, place: int) -> InvalidParameter:
        return InvalidParameter(
            f"{self.path}: not the journal of a run, or damaged at byte {place}: move it away"
        )


def _lock(file: BinaryIO, path: Path) -> None:
    """Keep other processes from the file until this one closes it or ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InvalidParameter(f"{path}: another run is writing this; let it end first") from None
    except OSError:  # a file system without locks
        return
