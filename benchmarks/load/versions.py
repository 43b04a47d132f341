"""Clients that ask without a pause, and which version answered them.

Each version's network gives an answer of its own, told alike by its box and its score.
"""

import dataclasses
import threading
import time

from client import Detector, DetectorError, Result
from serving.control import sample_photo

CLIENTS = 8
PHOTO_SIZE = 64  # pixels, of sample_photo
STEP = 0.01  # of score, and of the box's left edge, from one version to the next
PATIENCE = 60.0  # seconds until a version that was copied must answer


@dataclasses.dataclass(frozen=True)
class Answer:
    """Which version answered a request, and when the request began and ended, in seconds."""

    version: int
    began: float
    ended: float


class MixtureError(Exception):
    """An answer that no version gives."""


class Load:
    """Clients that ask without a pause, until the context ends.

    Attributes:
        answers: what they were answered.
        failures: what went wrong instead, mixtures among them.
    """

    def __init__(self, url: str, pause: float = 0.0, clients: int = CLIENTS) -> None:
        self.answers: list[Answer] = []
        self.failures: list[str] = []
        self._url = url
        self._pause = pause
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        photo = sample_photo()
        with Detector(self._url, retries=0) as detector:  # a failure is to be seen
            while not self._ending.is_set():
                began = time.monotonic()
                try:
                    version = version_of(detector.detect(photo))
                    self.answers.append(Answer(version, began, time.monotonic()))
                except (DetectorError, MixtureError) as error:
                    self.failures.append(str(error))
                self._ending.wait(self._pause)

    def wait_for(self, version: int) -> None:
        """Until a request that begins now would be answered by this version."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            seen = {answer.version for answer in self.answers[-2 * CLIENTS :]}
            if seen == {version}:
                return
            time.sleep(0.05)
        raise AssertionError(f"version {version} does not answer, but {seen}")


def version_of(result: Result) -> int:
    """The version that gave an answer, told alike by its box and its score."""
    if len(result.detections) != 1:
        raise MixtureError(f"{len(result.detections)} detections instead of one")
    (found,) = result.detections
    by_score = round((found.score - 0.5) / STEP)
    by_box = round(found.box.x1 / PHOTO_SIZE / STEP)
    if by_score != by_box:
        raise MixtureError(f"the score is that of version {by_score}, the box of {by_box}")
    return by_box
