"""From what a user writes, a path or an address, to the store that lies there.

Addresses are written as Triton writes them: s3://bucket/prefix, s3://host:port/bucket/prefix (by
HTTP), s3://https://host:port/bucket/prefix, gs://bucket/prefix, as://account/container/prefix.
Credentials come from Triton's environment variables, see `bucket.CREDENTIALS`. S3 is tested;
Google and Azure go through the same code and are untested.
"""

import re
from pathlib import Path

from serving.errors import StoreError
from serving.store.base import Store
from serving.store.bucket import Place
from serving.store.folder import FolderStore
from serving.store.objects import ObjectStore

ADDRESSES = {
    "s3": re.compile(
        r"s3://(?:(?P<scheme>https?://)?(?P<host>[\w.-]+:\d+)/)?"
        r"(?P<bucket>[a-z0-9][a-z0-9.-]+)(?:/(?P<prefix>[\w./-]*))?"
    ),
    "gs": re.compile(r"gs://(?P<bucket>[a-z0-9][\w.-]+)(?:/(?P<prefix>[\w./-]*))?"),
    "as": re.compile(
        r"as://(?P<account>[a-z0-9]+)/(?P<bucket>[a-z0-9$][a-z0-9-]+)(?:/(?P<prefix>[\w./-]*))?"
    ),
}
FORMS = (
    "s3://bucket/prefix, s3://host:port/bucket/prefix, s3://https://host:port/bucket/prefix, "
    "gs://bucket/prefix or as://account/container/prefix"
)


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
    scheme = re.match(r"([a-z0-9]+):/", text)
    if scheme is None:
        return None
    pattern = ADDRESSES.get(scheme[1])
    match = pattern.fullmatch(text.rstrip("/")) if pattern else None
    if match is None:
        raise StoreError(f"{text} is no address of a {of}: expected {FORMS}")
    return Place(scheme[1], **match.groupdict())
