"""Where photos lie and results go: a folder or a bucket, of which whole files come and go.

A file that is created is there whole or not at all, whenever the process ends.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

from obstore.exceptions import AlreadyExistsError

from client.errors import InvalidImage
from client.images import LARGEST_LIMIT, encoded
from client.inbox.files import create_file
from serving.errors import MissingFileError, StoreError
from serving.store.address import parse_address
from serving.store.bucket import Bucket


class Entry(NamedTuple):
    """A file: its path below the place, with /; its bytes; what changes when the file does."""

    path: str
    size: int
    stamp: str


class Place(Protocol):
    """A folder or a bucket. Every method raises StoreError: the place is away, or denies access."""

    address: str

    def entries(self) -> Iterator[Entry]:
        """Yield all files, those of subfolders too, without holding them."""

    def read_photo(self, path: str) -> bytes:
        """Return a photo's bytes; an InvalidImage says that it cannot be read."""

    def find(self, name: str) -> bytes | None:
        """Return a file's bytes; None: there is none."""

    def create(self, name: str, data: bytes) -> None:
        """Write a file, unless it is there already: then that one stays."""


def open_place(address: str) -> Place:
    """The place at a path or an address; a path is made absolute.

    Raises:
        StoreError: the address is malformed. Nothing is opened yet.
    """
    place = parse_address(address, of="folder or bucket")
    return Folder(Path(address).resolve()) if place is None else Objects(Bucket(address, place))


class Folder:
    """A folder. A file is written under a name that ends in .partial, then gets its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = str(folder)

    def entries(self) -> Iterator[Entry]:
        """See Place."""
        for place, folders, names in os.walk(self.folder, onerror=_raise):
            folders.sort()
            for name in sorted(names):
                path = Path(place, name)
                if path.is_file():
                    said = path.stat()
                    relative = path.relative_to(self.folder).as_posix()
                    yield Entry(relative, said.st_size, str(said.st_mtime_ns))

    def read_photo(self, path: str) -> bytes:
        """See Place."""
        return encoded(self.folder / path, LARGEST_LIMIT)

    def find(self, name: str) -> bytes | None:
        """See Place."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _raise(error)

    def create(self, name: str, data: bytes) -> None:
        """See Place."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            create_file(self.folder / name, data)
        except OSError as error:
            _raise(error)


class Objects:
    """The objects under an address. One PUT is atomic."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.address = bucket.address.rstrip("/")

    def entries(self) -> Iterator[Entry]:
        """See Place."""
        return (Entry(*each) for each in self.bucket.entries())

    def read_photo(self, path: str) -> bytes:
        """See Place."""
        data = self.find(path)
        if data is None:
            raise InvalidImage(f"{self.address}/{path}: no such object any more")
        return data

    def find(self, name: str) -> bytes | None:
        """See Place."""
        try:
            return self.bucket.get(name)[1]
        except MissingFileError:
            return None

    def create(self, name: str, data: bytes) -> None:
        """See Place."""
        try:
            self.bucket.put(name, data, "create")
        except AlreadyExistsError:
            return


def _raise(error: OSError) -> NoReturn:
    raise StoreError(f"{error.filename}: {error.strerror}") from None
