"""A repository with a server over it, and clients that count what fails."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from client import Detector, DetectorError
from serving.control import sample_photo
from serving.release.rollout import Rollout
from serving.release.session import ReleaseSettings, lock_store, open_session
from serving.server.server import EmbeddedServer


class Service:
    """A repository, a server over it, and what its users see."""

    def __init__(self, repository: Path, server: EmbeddedServer) -> None:
        self.repository = repository
        self.server = server

    @contextmanager
    def session(self) -> Iterator[Rollout]:
        """As every command begins."""
        settings = ReleaseSettings(**self.where())
        with lock_store(settings, "test") as store, open_session(store, settings) as rollout:
            yield rollout

    @property
    def url(self) -> str:
        """Where its users ask."""
        return self.server.grpc_url

    def where(self) -> dict[str, Any]:
        """The settings that all commands have in common."""
        return {
            "repository": str(self.repository),
            "url": self.url,
            "admin_key": self.server.admin_key,
        }

    def files(self) -> dict[str, bytes]:
        """Everything in and beside the repository."""
        top = self.repository.parent
        found = [path for path in top.rglob("*") if path.is_file()]
        return {path.relative_to(top).as_posix(): path.read_bytes() for path in found}

    def keep_processes_from_starting(self) -> Path:
        """Processes of Python models wait at their start as long as the returned file is there."""
        folder = self.server._region.folder / "stubs"
        hold = folder / "hold"
        hold.touch()
        wait = f"while os.path.exists({str(hold)!r}): time.sleep(0.02)"
        (packages,) = folder.glob("lib/python3*/site-packages")
        (packages / "hold.pth").write_text(f'import os, time; exec("{wait}")\n')
        return hold

    def score(self, model: str = "ensemble") -> float:
        """What a photo is answered with."""
        with Detector(self.url, model=model) as detector:
            return round(detector.detect(sample_photo()).detections[0].score, 2)

    def is_ready(self) -> bool:
        """Whether /v2/health/ready says 200."""
        try:
            url = f"http://{self.server.http_url}/v2/health/ready"
            return bool(urllib.request.urlopen(url, timeout=2).status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    @contextmanager
    def used(self, *models: str) -> Iterator[set[float]]:
        """While clients send photos, none of which may fail. Gives the scores they got."""
        over, failures, scores = threading.Event(), list[str](), set[float]()

        def use(model: str) -> None:
            with Detector(self.url, model=model, retries=0) as detector:
                while not over.wait(0.01):
                    try:
                        answer = detector.detect(sample_photo()).detections
                        scores.add(round(answer[0].score, 2))
                    except DetectorError as error:
                        failures.append(str(error))

        threads = [threading.Thread(target=use, args=(m,)) for m in models or ("ensemble",) * 2]
        for thread in threads:
            thread.start()
        try:
            yield scores
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert failures == []
