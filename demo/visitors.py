"""The options of `app.py` for a page that others can reach."""

import ipaddress
import os
import socket
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import tyro

from client import InvalidParameter

SHORTEST_PASSWORD = 12  # characters


@dataclass(frozen=True)
class VisitorOptions:
    """For pages that others can reach."""

    auth: Annotated[str, tyro.conf.arg(metavar="USER:PASSWORD", help_behavior_hint="")] = ""
    """What visitors log in with; several of them a line each. Better in the environment variable
    APP_AUTH: everybody on this machine sees command lines."""

    names: Annotated[str, tyro.conf.arg(metavar="NAME,...", help_behavior_hint="")] = ""
    """Host names under which others reach the page; localhost, this machine's own name and
    addresses in numbers need not be named."""

    root_path: Annotated[str, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = ""
    """Where a reverse proxy shows the page: a path such as /detect, or the whole URL."""

    uploads_limit: int = 1000
    """Megabytes of photos and videos that the page keeps at a time."""

    def login(self) -> list[tuple[str, str]] | None:
        """Users and passwords as Gradio takes them; None where everybody may come.

        Raises:
            InvalidParameter: there is no user or password, it is short, or a user has two.
        """
        given = (self.auth or os.environ.get("APP_AUTH", "")).splitlines()
        pairs = [(line.partition(":")[0].strip(), line.partition(":")[2]) for line in given]
        users = [user for user, _ in pairs]
        if not all(users) or any(len(password) < SHORTEST_PASSWORD for _, password in pairs):
            raise InvalidParameter(
                f"--auth or APP_AUTH: expected USER:PASSWORD, the password of {SHORTEST_PASSWORD} "
                "characters or more: nothing limits how often somebody tries"
            )
        if len(set(users)) < len(users):
            raise InvalidParameter("--auth or APP_AUTH: a user stands there twice")
        return pairs or None

    def is_private(self, host: str) -> bool:
        """Whether nobody logs in, and only this machine reaches the page on this host."""
        return is_loopback(host) and not (self.names or self.root_path or self.login())

    def root(self) -> str | None:
        """The root path as Gradio takes it: a URL, or a path without a slash at its end."""
        path = self.root_path.strip("/")
        return path if "://" in path else f"/{path}" if path else None

    def host_names(self, host: str) -> set[str]:
        """The names under which the page is reached that listens on this host."""
        given = (name.strip() for name in self.names.split(","))
        public = urlsplit(self.root_path).hostname
        names = {"localhost", socket.gethostname(), host, public, *given}
        return {name for name in names if name}


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached by this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
