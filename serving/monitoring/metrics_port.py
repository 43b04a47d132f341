"""The port where a program's own metrics are read by HTTP."""

import socket
import threading
from http.server import ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler


class MetricsPort(ThreadingHTTPServer):
    """Answers whoever asks, until `close`.

    prometheus_client's own server prints a stack trace where a client breaks off, and waits for
    ever for one that says nothing.

    Raises:
        OSError: the address cannot be listened on.
    """

    daemon_threads = True
    seconds = 10.0  # that a client may say nothing

    def __init__(self, address: str, port: int, registry: CollectorRegistry) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        settings = {"registry": registry, "timeout": self.seconds}
        super().__init__((address, port), type("Handler", (MetricsHandler,), settings))
        self._thread = threading.Thread(target=self.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def handle_error(self, *request: Any) -> None:
        """Say nothing: the client has broken off."""

    def close(self) -> None:
        """Answer no more."""
        self.shutdown()
        self._thread.join()
        self.server_close()
