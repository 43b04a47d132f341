"""The list of servers: a text file, one a line, its gRPC and its HTTP address.

    10.0.0.1:8001 10.0.0.1:8000
    10.0.0.2:8001 10.0.0.2:8000

What stands behind a # is left out, and so are empty lines.
"""

from collections.abc import Iterable
from pathlib import Path

from serving.errors import PrerequisiteError
from serving.fleet.configuration import Address, Server
from serving.fleet.followed import read_words


def read_servers(file: Path) -> list[Server]:
    """The servers of a list.

    Raises:
        PrerequisiteError: it cannot be read, holds none, or a line is none.
    """
    servers = [_parse(words, where) for where, words in read_words(file)]
    if not servers:
        raise PrerequisiteError(f"{file} names no server: a line each, gRPC and HTTP address")
    if twice := [str(s.grpc) for s in servers if servers.count(s) > 1]:
        raise PrerequisiteError(f"{file} names {twice[0]} twice")
    return servers


def format_servers(servers: Iterable[Server]) -> str:
    """The list's text."""
    return "".join(f"{server.grpc} {server.http}\n" for server in servers)


def parse_address(text: str) -> Address:
    """Host and port, an IPv6 host in brackets.

    Raises:
        ValueError: it is something else.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not 0 < int(port) < 2**16:
        raise ValueError(text)
    return Address(host, int(port))


def _parse(words: list[str], where: str) -> Server:
    try:
        grpc, http = map(parse_address, words)
    except ValueError:
        raise PrerequisiteError(
            f"{where}: expected the addresses of gRPC and HTTP, such as 10.0.0.1:8001 "
            f"10.0.0.1:8000, found {' '.join(words)}"
        ) from None
    return Server(grpc, http)
