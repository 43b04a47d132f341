"""TLS in both directions, and the key that opens a server."""

import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from client.errors import InvalidParameter

PemFile = str | os.PathLike[str] | None


@dataclass(frozen=True, kw_only=True)
class Security:
    """How a server proves who it is, and the client who it is.

    The files matter for grpcs:// and https:// only and are read once, when a detector is made.

    Attributes:
        ca: PEM file of the authorities whose certificates are trusted; None: the public ones.
        certificate: PEM file of the client's own certificate, for servers that want one (mTLS).
        key: PEM file of that certificate's private key.
        api_key: sent with each request; empty: none. It can be read on the way unless TLS is used.
        api_key_header: the header that carries it.

    Raises:
        InvalidParameter: a certificate without its key, or a header that cannot be sent.
    """

    ca: PemFile = None
    certificate: PemFile = None
    key: PemFile = None
    api_key: str = field(default="", repr=False)
    api_key_header: str = "x-api-key"

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidParameter("a client certificate and its key are only of use together")
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", self.api_key_header):
            raise InvalidParameter(f"{self.api_key_header!r} cannot be the name of a header")
        if not re.fullmatch(r"[ -~]*", self.api_key):
            raise InvalidParameter("the API key must be printable ASCII")

    @property
    def has_files(self) -> bool:
        """Whether anything here needs TLS."""
        return self.ca is not None or self.certificate is not None

    def headers(self) -> dict[str, str]:
        """Return what each request carries, names in lower case."""
        return {self.api_key_header.lower(): self.api_key} if self.api_key else {}

    def context(self) -> ssl.SSLContext:
        """Return the files as Python's TLS takes them.

        Raises:
            InvalidParameter: a file cannot be read or holds something else.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:  # ssl.SSLError is one
            raise InvalidParameter(f"{self.ca}: no certificates to trust: {_why(error)}") from None
        if self.certificate is None:
            return context
        try:
            # Without a password a key that wants one would ask on the terminal.
            context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except OSError as error:
            raise InvalidParameter(
                f"{self.certificate}, {self.key}: no certificate and its key: {_why(error)}"
            ) from None
        return context

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the files as gRPC takes them; it would tell what is wrong with them only later.

        Raises:
            InvalidParameter: a file cannot be read or holds something else.
        """
        self.context()
        files = (_read_pem(path) for path in (self.ca, self.key, self.certificate))
        return grpc.ssl_channel_credentials(*files)


def _read_pem(path: PemFile) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def _why(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error)
