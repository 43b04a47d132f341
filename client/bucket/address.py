"""Addresses of buckets, as Triton writes them.

s3://bucket/prefix, s3://host:port/bucket/prefix (by HTTP), s3://https://host:port/bucket/prefix,
gs://bucket/prefix, as://account/container/prefix. Credentials come from Triton's environment
variables, see `bucket.CREDENTIALS`. S3 is tested; Google and Azure go through the same code and are
untested.
"""

import re
from dataclasses import dataclass

from client.errors import InvalidParameter

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


@dataclass(frozen=True)
class Place:
    """What an address says."""

    kind: str  # s3, gs or as
    bucket: str
    prefix: str | None = None
    scheme: str | None = None  # http:// or https:// of an S3 server that is not Amazon's
    host: str | None = None  # with its port
    account: str | None = None  # Azure's


def parse_place(text: str, of: str) -> Place | None:
    """What a bucket's address says; None for the path of a folder. `of` what, a message says.

    Raises:
        InvalidParameter: the address is malformed.
    """
    scheme = re.match(r"([a-z0-9]+):/", text)
    if scheme is None:
        return None
    pattern = ADDRESSES.get(scheme[1])
    match = pattern.fullmatch(text.rstrip("/")) if pattern else None
    if match is None:
        raise InvalidParameter(f"{text} is no address of a {of}: expected {FORMS}")
    return Place(scheme[1], **match.groupdict())
