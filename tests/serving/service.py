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
from serving.release.promote import RollbackSettings, rollback
from serving.release.publish import PublishSettings, publish
from serving.release.rollout import Rollout
from serving.release.servers import read_state
from serving.release.session import ReleaseSettings, lock_store, open_session
from serving.repository import State, open_repository
from serving.server.server import EmbeddedServer
from serving.store.address import open_store

UNTRIED: dict[str, Any] = {"private_server": False, "slowdown": 1000.0}


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


class Pair(Service):
    """Two servers over one repository; each test leaves version 1 live on both, score .9."""

    def __init__(self, repository: Path, server: EmbeddedServer, second: EmbeddedServer) -> None:
        super().__init__(repository, server)
        self.second = second

    @property
    def url(self) -> str:
        return f"{self.server.grpc_url},{self.second.grpc_url}"

    def states(self) -> list[State | None]:
        """What each serves."""
        task = open_repository(open_store(self.repository), "ensemble").task
        with self.server.control() as first, self.second.control() as second:
            return [read_state(control, task) for control in (first, second)]

    def scores(self) -> list[float]:
        """What each answers a photo with."""
        return [Service(self.repository, each).score() for each in (self.server, self.second)]

    def publish(self, artifact: Path, **settings: Any) -> None:
        """To both, without the trials."""
        publish(PublishSettings(artifact=artifact, **{**self.where(), **UNTRIED, **settings}))

    def newest(self) -> int:
        """The repository's newest version."""
        return max(open_repository(open_store(self.repository), "ensemble").versions())

    def options(self) -> list[str]:
        """Where a command is to be carried out, for a command line."""
        return [f"--{name.replace('_', '-')}={value}" for name, value in self.where().items()]

    def go_back(self) -> None:
        """To version 1."""
        rollback(RollbackSettings(version=1, **self.where()))
        assert self.states() == [State(1), State(1)]
        assert self.scores() == [0.9, 0.9]
