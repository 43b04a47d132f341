"""A real Prometheus that remembers an hour of several places, a namespace each; and others."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.serving.monitoring.past import LABELS, Past, draw_photos, remembering

Answering = Callable[[int, str], str]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """answering(status, text) -> address of something that always answers so."""
    running: list[ThreadingHTTPServer] = []

    def start(status: int, text: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """Nothing."""

        running.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=running[-1].serve_forever, args=(0.01,)).start()
        return f"http://127.0.0.1:{running[-1].server_port}"

    yield start
    for each in running:
        each.shutdown()
        each.server_close()


@pytest.fixture(scope="module")  # a session's would be of another hour
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    past = Past()
    _add_photos(past)
    _add_versions(past)
    with remembering(tmp_path_factory.mktemp("prometheus") / "past", past) as url:
        yield url


def _add_photos(past: Past) -> None:
    past.add_photos(draw_photos(1, 300), namespace="same", server="1")
    past.add_photos(draw_photos(2, 100), namespace="same", server="2")
    past.add_photos(draw_photos(1, 400, brightness=121), namespace="dark")
    past.add_photos(draw_photos(1, 40, brightness=121), namespace="few")
    past.add_photos(draw_photos(1, 400, labels=[*LABELS, "Basophil"]), namespace="stranger")
    past.add_photos(draw_photos(1, 400), namespace="photos beside a canary")


def _add_versions(past: Past) -> None:
    """An hour, 61 scrapes: the live version of some servers, and of the canary."""
    for namespace, server, live, canary in (
        ("steady", "1", [2] * 61, [0] * 61),
        ("steady", "2", [2] * 61, [0] * 61),
        ("released", "1", [1] * 31 + [2] * 30, [0] * 61),
        ("released", "2", [1] * 41 + [2] * 20, [0] * 61),
        ("canary", "1", [2] * 61, [0] * 51 + [3] * 10),
        ("canary ended", "1", [2] * 61, [0] * 21 + [3] * 30 + [0] * 10),
        ("photos beside a canary", "1", [1] * 61, [3] * 61),
        ("torn", "1", [2] * 61, [0] * 61),
        ("torn", "2", [1] * 61, [0] * 61),
    ):
        labels = {"namespace": namespace, "server": server, "model": "ssd"}
        past.add("ssd_live_version", labels, live)
        past.add("ssd_canary_version", labels, canary)
