"""From what a user writes, a path or an address, to the store that lies there.

`client.bucket.address` says how addresses are written, and where credentials come from.
"""

from pathlib import Path

from client.bucket.address import Place, parse_place
from client.errors import InvalidParameter
from serving.errors import StoreError
from serving.store.base import Store
from serving.store.folder import FolderStore
from serving.store.objects import ObjectStore


def open_store(repository: str | Path) -> Store:
    """The store at a folder's path or an address.

    Raises:
        StoreError: the address is malformed. Nothing is opened yet.
    """
    text = str(repository)
    place = parse_address(text)
    return FolderStore(text) if place is None else ObjectStore(text, place)


def parse_address(text: str, of: str = "model repository") -> Place | None:
    """What a bucket's address says; None for the path of a folder. `of` what, a message says.

    Raises:
        StoreError: the address is malformed.
    """
    try:
        return parse_place(text, of)
    except InvalidParameter as error:
        raise StoreError(str(error)) from None
