"""A steady load by the client library, that tries nothing twice: what an application would see."""

import itertools
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import ROOT
from client import Detector
from client.errors import DetectorError

PHOTO = ROOT / "samples" / "smear-1.jpg"
TIMEOUT = 20.0  # seconds
WORKERS = 64  # requests under way at once at most


@dataclass(frozen=True)
class Answer:
    """One request: when it was due, how long it took from then on, and why it failed."""

    due: float
    seconds: float
    error: str


def measure_capacity(urls: Sequence[str], seconds: float = 8.0, concurrency: int = 12) -> float:
    """Photos a second, with so many requests under way at once."""
    photos = itertools.repeat(PHOTO.read_bytes())
    count, deadline = 0, time.monotonic() + seconds
    with Detector(list(urls), timeout=TIMEOUT) as detector:
        for _ in detector.detect_many(photos, concurrency=concurrency):
            count += 1
            if time.monotonic() > deadline:
                break
    return count / seconds


class Steady:
    """So many photos a second, as long as the context lasts, whatever becomes of them.

    Args:
        urls: servers, of which the client takes another one where one is not reached.
        rate: photos a second.
        photos: the files, one after the other, over and over; none: a sample.
    """

    def __init__(self, urls: Sequence[str], rate: float, photos: Sequence[bytes] = ()) -> None:
        self._rate = rate
        self._photos = itertools.cycle(photos or [PHOTO.read_bytes()])
        # The second of several gateways is asked at once: that is no further try of the same one.
        self._detector = Detector(list(urls), timeout=TIMEOUT, retries=len(urls) - 1)
        self._due: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._answers: list[Answer] = []
        self._asked = 0
        self._stopping = threading.Event()
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(WORKERS)]
        self._threads = [*workers, threading.Thread(target=self._tick, daemon=True)]

    def __enter__(self) -> "Steady":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for _thread in self._threads[:-1]:
            self._due.put(None)
        for thread in self._threads:
            thread.join()
        self._detector.close()

    def since(self, moment: float) -> list[Answer]:
        """All requests that were due since then and have ended."""
        return [answer for answer in list(self._answers) if answer.due >= moment]

    def settle(self) -> None:
        """Wait until what has been asked so far has ended."""
        asked, deadline = self._asked, time.monotonic() + TIMEOUT + 1
        while len(self._answers) < asked and time.monotonic() < deadline:
            time.sleep(0.02)

    def _tick(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            self._asked += 1
            self._due.put(due)
            due += 1 / self._rate

    def _work(self) -> None:
        while (due := self._due.get()) is not None:
            error = ""
            try:
                self._detector.detect(next(self._photos))
            except DetectorError as failure:
                error = f"{type(failure).__name__}: {failure}"[:200]
            self._answers.append(Answer(due, time.monotonic() - due, error))
