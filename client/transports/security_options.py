"""The options of the commands for TLS and keys."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from client.transports.security import Security

Pem = Annotated[Path | None, tyro.conf.arg(metavar="PEM", help_behavior_hint="")]


@dataclass(frozen=True)
class SecurityOptions:
    """For servers that are reached through grpcs:// or https://, or that want a key."""

    ca: Pem = None
    """Authorities that are trusted, for grpcs:// and https://; else the public ones."""

    certificate: Pem = None
    """Your own certificate, for servers that want one (mTLS)."""

    key: Pem = None
    """The private key of that certificate."""

    api_key: Annotated[str, tyro.conf.arg(metavar="KEY", help_behavior_hint="")] = ""
    """Sent with each request."""

    api_key_header: str = "x-api-key"
    """The header that carries it."""

    def read(self) -> Security:
        """Return what a detector takes.

        Raises:
            InvalidParameter: a certificate without its key, or a header that cannot be sent.
        """
        return Security(
            ca=self.ca,
            certificate=self.certificate,
            key=self.key,
            api_key=self.api_key,
            api_key_header=self.api_key_header,
        )
