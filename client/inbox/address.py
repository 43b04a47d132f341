"""From what a user writes, a path or an address, to the files of the inbox that lies there."""

from pathlib import Path

from client.bucket.address import parse_place
from client.errors import InvalidParameter
from client.inbox.files import Folder
from client.inbox.storage import Storage


def open_storage(address: str | Path) -> Storage:
    """The files at a path or an address, of which nothing is opened yet.

    Raises:
        InvalidParameter: the address is malformed, or the package for buckets is missing.
    """
    text = str(address)
    place = parse_place(text, of="folder or bucket")
    if place is None:
        return Folder(Path(text))
    try:
        from client.inbox.objects import Objects  # obstore is only needed here
    except ImportError as error:
        raise InvalidParameter(
            f"{text}: buckets need a package more ({error}): pip install obstore"
        ) from None
    return Objects(text, place)
