"""What listens at a port, found out with plain sockets: for explaining why no request gets through.

Triton's ports look alike from outside, but each answers a stranger in its own way: gRPC's with a
frame of HTTP/2, the HTTP port and the metrics with HTTP/1.1, an encrypted one with an alert or not
at all.
"""

import re
import socket
import ssl
import threading
from contextlib import suppress
from typing import Literal

Kind = Literal[
    "unresolved",  # no address has that name
    "nothing",  # the connection is refused
    "unreachable",  # nobody answers, not even with a refusal; or there is no way there
    "silent",  # connections are taken, and nothing is ever said
    "grpc",
    "gateway",  # that of this project, which gets no answer from a server
    "http",  # Triton's REST
    "metrics",  # Triton's
    "web",  # something else that speaks HTTP/1
    "tls",  # encrypted; what is inside is not looked at
    "other",
]
SECONDS = 3.0  # for each attempt


def listener(host: str, port: int, seconds: float = SECONDS) -> Kind:
    """Return what listens there.

    Args:
        host: a name or an address, IPv6 without brackets.
        port: TCP port.
        seconds: for each of up to four attempts, one after the other.
    """
    if not _resolves(host, port, seconds):
        return "unresolved"
    try:
        said = _said(host, port, seconds, "/v2")
    except ConnectionRefusedError:
        return "nothing"
    except OSError:
        return "unreachable"
    if said.startswith(b"HTTP/1."):
        return _http(host, port, seconds, said)
    if said[3:4] == b"\x04" and said[:2] == b"\0\0":  # the frame SETTINGS, HTTP/2's first
        return "grpc"
    if _speaks_tls(host, port, seconds):
        return "tls"
    return "other" if said else "silent"


def certificate_fault(
    host: str, port: int, context: ssl.SSLContext, seconds: float = SECONDS
) -> str:
    """Return why the certificate of an encrypted port is not accepted, empty where it is.

    Args:
        host: what the certificate must be for.
        port: TCP port.
        context: whom to trust.
        seconds: for the attempt.
    """
    try:
        with socket.create_connection((host, port), seconds) as connection:
            context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    except OSError:
        pass  # whatever else is wrong is not the certificate
    return ""


def _resolves(host: str, port: int, seconds: float) -> bool:
    """Whether a name has an address; asking has no time limit of its own."""
    found: list[bool] = []

    def ask() -> None:
        with suppress(OSError, UnicodeError):  # UnicodeError: an empty or endless part between dots
            found.append(bool(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(found)


def _said(host: str, port: int, seconds: float, path: str) -> bytes:
    """Return the beginning of the answer to a request of HTTP/1.1; empty where there is none.

    Raises:
        OSError: there is no connection.
    """
    with socket.create_connection((host, port), seconds) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        said = b""
        with suppress(OSError):  # silence, or a connection that breaks off
            connection.sendall(request.encode())
            while len(said) < 4096 and (more := connection.recv(4096)):
                said += more
        return said


def _http(host: str, port: int, seconds: float, said: bytes) -> Kind:
    if re.search(rb"\r\nserver: ssd-gateway\r\n", said, re.IGNORECASE):
        return "gateway"
    if b'"extensions"' in said or b"API is restricted" in said:  # Triton's metadata
        return "http"
    with suppress(OSError):
        if b"\n# HELP nv_" in _said(host, port, seconds, "/metrics"):
            return "metrics"
    return "web"


def _speaks_tls(host: str, port: int, seconds: float) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whose it is does not matter here
    context.set_alpn_protocols(["h2", "http/1.1"])  # gRPC's servers insist on h2
    try:
        with socket.create_connection((host, port), seconds) as connection:
            context.wrap_socket(connection, server_hostname=host).close()
    except OSError:
        return False
    return True
