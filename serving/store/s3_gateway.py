"""Lets tritonserver read a repository in an object store from a copy on this machine, by S3.

Triton reads the repository again for each load, for each look at its index, and for a new start.
With the store itself in that place, a process that dies while the store is away could not be
replaced. So a small server on the loopback address speaks as much of S3's protocol as Triton uses:
HEAD of the bucket and of an object, GET of an object, GET of a list. What it serves is a copy,
which is brought up to date before each load: so a load reads what the store holds at that moment,
and while the store is away what it held last.

Only whoever knows the key that Triton is given reads here; the store's own credentials stay with
this process.
"""

import secrets
import sys
import threading
import time
from collections.abc import Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from serving.store.mirror import Mirror

BUCKET, PREFIX = "/repository", "models/"  # Triton takes no bare bucket for a repository
OTHERS = ("AWS_", "AZURE_", "GOOGLE_", "TRITON_CLOUD_")  # variables that Triton's clients read
LIST = (  # without a first line that says XML, since blanks may come before
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<IsTruncated>false</IsTruncated>{}</ListBucketResult>"
)
ENTRY = "<Contents><Key>models/{}</Key><LastModified>{}</LastModified><Size>{}</Size></Contents>"


class S3Gateway(ThreadingHTTPServer):
    """Serves a copy on a free port until `close`."""

    daemon_threads = True

    def __init__(self, mirror: Mirror) -> None:
        super().__init__(("127.0.0.1", 0), S3Handler)
        self.mirror = mirror
        self.key = secrets.token_hex(16)
        self._thread = threading.Thread(target=self.serve_forever, name="S3 gateway", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """For tritonserver's --model-repository."""
        return f"s3://http://127.0.0.1:{self.server_port}{BUCKET}/{PREFIX.rstrip('/')}"

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """What a program needs to read here; nothing of what opens the store itself."""
        kept = {name: value for name, value in inherited.items() if not name.startswith(OTHERS)}
        credentials = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), self.key)
        return kept | credentials | {"AWS_DEFAULT_REGION": "us-east-1"}

    def handle_error(self, *request: Any) -> None:
        """A connection broke, or a file went meanwhile: the client asks again."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(*request)

    def close(self) -> None:
        """Answer no more."""
        self.shutdown()
        self._thread.join()
        self.server_close()


class S3Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: S3Gateway
    timeout = 60  # seconds; an idle connection is closed

    def do_GET(self) -> None:
        """A list or an object; the same for HEAD, without a body."""
        where = urlsplit(self.path)
        if f"Credential={self.server.key}/" not in self.headers.get("Authorization", ""):
            self._answer(403)
        elif where.path == BUCKET and self.command == "HEAD":
            self._answer(200)
        elif where.path == BUCKET:
            self._list(parse_qs(where.query).get("prefix", [""])[0].removeprefix(PREFIX))
        else:
            self._send(unquote(where.path).removeprefix(f"{BUCKET}/{PREFIX}"))

    do_HEAD = do_GET  # noqa: N815

    def _list(self, prefix: str) -> None:
        mirror = self.server.mirror
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        if prefix.count("/") <= 1:  # of everything or of one model: what each load begins with
            self._refresh()
        found = []
        for name in sorted(name for name in mirror.files if name.startswith(prefix)):
            status = (mirror.folder / name).stat()
            changed = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(status.st_mtime))
            found.append(ENTRY.format(escape(name), changed, status.st_size))
        self.wfile.write(LIST.format("".join(found)).encode())

    def _refresh(self) -> None:
        """Triton's client gives up an answer of which nothing comes for 3 seconds."""
        refresh = threading.Thread(target=self.server.mirror.refresh)
        refresh.start()
        while refresh.is_alive():
            refresh.join(1.0)
            self.wfile.write(b"\n" * 64)

    def _send(self, name: str) -> None:
        path = self.server.mirror.folder / name
        if name in self.server.mirror.files:
            self._answer(200, path.read_bytes(), path.stat().st_mtime)
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def _answer(self, status: int, body: bytes = b"", changed: float | None = None) -> None:
        self.send_response(status)
        if changed is not None:
            self.send_header("Last-Modified", formatdate(changed, usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
