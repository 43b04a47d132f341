"""A server in the place of an object store that refuses whatever it is asked."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers everything with one status and one of S3's error codes."""

    status, code = 403, "AccessDenied"
    authorization = ""  # of the last request to any of them

    def do_GET(self) -> None:
        Refusing.authorization = self.headers.get("authorization", "")
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = f'<?xml version="1.0"?><Error><Code>{self.code}</Code></Error>'.encode()
        self.send_response(self.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_PUT = do_HEAD = do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def refusing_store(status: int, code: str) -> Iterator[str]:
    """Host and port of a server that answers so."""
    handler = type("Handler", (Refusing,), {"status": status, "code": code})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
