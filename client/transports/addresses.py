"""Where servers are: host:port or a URL, one or several."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from client.errors import InvalidParameter

PATTERN = re.compile(
    r"(?:(?P<scheme>grpcs?|https?)://)?"
    r"(?P<host>[^\s:/@\[\]]+|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>\d{1,5}))?"
    r"(?P<path>/[^\s?#]*)?"
)
PORTS = {"http": 80, "https": 443, "grpcs": 443}  # what stands behind a URL without one
LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}


@dataclass(frozen=True)
class Address:
    """One server's address.

    Attributes:
        text: as it was given, for messages and results.
        scheme: grpc, grpcs, http or https.
        host: a name or an IP address, IPv6 in brackets.
        path: what comes before `/v2` in HTTP, without a slash at its end; empty for gRPC.
    """

    text: str
    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        return self.text

    @property
    def authority(self) -> str:
        """host:port."""
        return f"{self.host}:{self.port}"

    @property
    def protocol(self) -> str:
        """gRPC or HTTP."""
        return "gRPC" if self.scheme.startswith("grpc") else "HTTP"

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme.endswith("s")

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine by its name."""
        return self.host in LOOPBACK


def parse_addresses(urls: str | Sequence[str]) -> list[Address]:
    """Return the addresses in a list, or in a text that separates them by commas.

    Raises:
        InvalidParameter: one is neither host:port nor a URL, or there are none.
    """
    texts = urls.split(",") if isinstance(urls, str) else urls
    if not texts:
        raise InvalidParameter("at least one server's address is needed, but the list is empty")
    return [_address(text.strip()) for text in texts]


def _address(text: str) -> Address:
    parts = PATTERN.fullmatch(text)
    scheme = (parts and parts["scheme"]) or "grpc"
    port = int(parts["port"] or PORTS.get(scheme, 0)) if parts else 0
    path = (parts and parts["path"]) or ""
    if parts is None or not 0 < port < 2**16 or (path and scheme.startswith("grpc")):
        raise InvalidParameter(
            "the address must be host:port of Triton's gRPC port, such as 127.0.0.1:8001, "
            "or a URL that begins with grpc://, grpcs://, http:// or https://, "
            f"but got {text!r}"
        )
    return Address(text, scheme, parts["host"], port, path.rstrip("/"))


def model_path(model: str) -> str:
    """The path of a model in HTTP, below the server's address."""
    return f"/v2/models/{quote(model, safe='')}"
