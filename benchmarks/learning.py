"""The whole loop once, with nobody's hand on it: the world changes, and the service follows.

    python -m benchmarks.learning --work runs/loop --output benchmarks/results/learning.json

A network is trained on rendered smears and served by two servers behind a gateway, over a bucket,
scraped by Prometheus; clients ask all the while. Then all smears come in another stain. `serving
drift` notices, `training select` chooses among the photos of that stain, and the renderer's truth
stands in for the person who labels them. `learning run`, which is begun again and again as cron
does, makes a canary of it, and the judge promotes it. At last somebody floods the inbox with
swapped labels. Half an hour on two cores; programs of Debian: `benchmarks/monitoring/stack.py`.
"""

import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro

from benchmarks import ROOT
from benchmarks.measurement import machine
from benchmarks.measurement.hosts import CREDENTIALS
from benchmarks.monitoring.watched import Watched, watch_fleet
from client import Detector
from client.errors import DetectorError
from serving.release.evaluation import SCORE_THRESHOLD, read_evaluation, score_detections
from training.render.microscope import JPEG_QUALITY
from training.render.smears import RenderSettings, render_smears

OTHER = (2, 0, 1)  # blue takes away what red took, and so on
FAINT = 0.35  # of what the usual stain takes away
CLIENTS = 20  # keys, of which a share meets the canary
CRON_SECONDS = 20.0
LIMIT = 3600.0  # seconds until a stage is given up
SWAPPED = {"RBC": "WBC", "WBC": "RBC"}
NAME = re.compile(r"<name>(\w+)<")
MOVED, CANNOT_TELL = 3, 4  # exit codes of `serving drift`
REFUSED, TOO_FEW = 3, 4  # of `learning run`


@dataclass(frozen=True)
class Settings:
    """Go through the loop, and write what happened when, and the figures."""

    work: Path
    """Folder to make; what commands said is kept in its log.txt."""
    output: Path
    """JSON file to write."""
    photos: int = 160
    """Annotated smears of the usual stain."""
    frozen: float = 0.4
    """Share of them that is the frozen test set, and what drift is judged by."""
    pool: int = 96
    """Smears of the other stain, of which nobody knows the boxes at first."""
    labelled: int = 72
    """How many of those are labelled."""
    epochs: int = 33
    """Of each training."""
    more: float = 0.5
    """As of `learning run`: in another stain, the live network is wrong about good annotations."""
    rate: float = 4.0
    """Photos a second that clients send."""


class Story:
    """What happens, when, and what commands say of it; written down as it goes."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._begin = settings, time.monotonic()
        self.found: dict[str, Any] = {"machine": machine.describe_machine(), "events": []}

    def tell(self, what: str, **figures: Any) -> None:
        """Note an event with its figures."""
        event = {"seconds": round(time.monotonic() - self._begin), "what": what} | figures
        print(event, flush=True)
        self.found["events"].append(event)
        self._settings.output.write_text(json.dumps(self.found, indent=1) + "\n")

    def run(self, module: str, command: str, *passes: int) -> tuple[int, str]:
        """Run one of the project's commands in the folder of the work; returns what it said.

        Raises:
            RuntimeError: its exit code is neither 0 nor one that passes.
        """
        done = subprocess.run(
            [sys.executable, "-m", module, *command.split()],
            cwd=self._settings.work,
            env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        with (self._settings.work / "log.txt").open("a") as log:
            log.write(f"$ python -m {module} {command}\n{done.stdout}\nexit {done.returncode}\n")
        if done.returncode not in (0, *passes):
            raise RuntimeError(f"{module} {command}: {done.returncode}: {done.stdout[-2000:]}")
        return done.returncode, done.stdout


class Clients:
    """Programs that send photos to the gateway, one after the other, and try nothing twice.

    Attributes:
        photos: the files they send by now.
        failed: what they were told instead of detections.
    """

    def __init__(self, url: str, rate: float, photos: list[bytes]) -> None:
        self.photos, self.asked = photos, 0
        self.failed: list[str] = []
        self._url, self._pause = url, 1 / rate
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Clients":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _ask(self) -> None:
        draw = random.Random(0)
        with Detector(self._url, retries=0, timeout=30) as detector:
            for number in itertools.count():
                self.asked += 1
                try:
                    detector.detect(
                        draw.choice(self.photos), canary_key=f"client-{number % CLIENTS}"
                    )
                except DetectorError as error:
                    self.failed.append(f"{type(error).__name__}: {error}"[:200])
                if self._stopped.wait(self._pause):
                    return


def main(settings: Settings) -> int:
    """Go through it. Exit code 1: it did not end as it should."""
    settings.work.mkdir(parents=True, exist_ok=True)
    story, work = Story(settings), settings.work
    if not (work / "models").exists():  # the longest part: a second run goes on behind it
        _prepare(settings, story)
    usual = _read_photos(work / "usual")
    with (
        _serve(work, usual) as watched,
        Clients(watched.fleet.url, settings.rate, usual) as clients,
    ):
        said = _wait_for_drift(story, watched, 0)
        before = _measure(settings, watched)
        story.tell("version 1 serves, nothing drifts", said=said, mAP=before)
        clients.photos = _read_photos(work / "pool")
        story.tell("all smears come in another stain")
        story.tell("noticed", said=_wait_for_drift(story, watched, MOVED))
        _label_chosen(settings, story)
        said = _learn(settings, story, watched, 0)
        after = _measure(settings, watched)
        story.tell("promoted", said=said, mAP=after)
        _poison(settings, story)
        said = _learn(settings, story, watched, REFUSED)
        last = _measure(settings, watched)
        story.tell("refused", said=said, mAP=last)
    story.tell("the end", requests=clients.asked, failed=clients.failed)
    good = before["other"] < 0.6 and after["other"] > 0.85 and last == after
    return int(clients.failed != [] or not good)


def _prepare(settings: Settings, story: Story) -> None:
    """Make the photos of both stains, and the first model."""
    work = settings.work
    render_smears(RenderSettings(work / "usual", settings.photos, val=settings.frozen, seed=1))
    for name, count, seed in (("pool", settings.pool, 2), ("other", 30, 3)):
        render_smears(RenderSettings(work / name, count, seed=seed))
        _stain_otherwise(work / name)
    shutil.copytree(work / "pool/JPEGImages", work / "unlabelled")
    story.tell("photos are drawn")
    story.run("training", "coco usual --split val --output usual.json")
    story.run("training", "coco other --split trainval --output other.json")
    story.run("training", "records usual --output records --labels RBC WBC Platelets")
    training = f"--preset ssd_lite0 --epochs {settings.epochs} --output first"
    story.run("training", f"train records {training}")
    story.run("training", "export first --precision int8 --output artifact")
    story.run("serving", "publish artifact --repository models")
    story.tell("a first model is trained and published")


def _stain_otherwise(folder: Path) -> None:
    """Make of a folder's photos what another stain would: optical densities of other colours.

    What a cell takes from the light is taken from another colour, and less of it.
    """
    for path in sorted((folder / "JPEGImages").iterdir()):
        density = -np.log((cv2.imread(str(path)).astype(np.float32) + 1) / 256)
        photo = 256 * np.exp(-FAINT * density[..., OTHER]) - 1
        pixels = photo.round().clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


@contextmanager
def _serve(work: Path, photos: list[bytes]) -> Iterator[Watched]:
    folder = work / "monitoring"
    folder.mkdir()
    os.environ.update(CREDENTIALS)
    with watch_fleet(folder, work / "models", photos) as watched:
        os.environ["TRITON_ADMIN_KEY"] = watched.fleet.admin_key
        yield watched


def _read_photos(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((folder / "JPEGImages").iterdir())]


def _measure(settings: Settings, watched: Watched) -> dict[str, float]:
    """mAP@0.5 of what is served, on photos of both stains that nobody learns from."""
    found = {}
    with Detector(watched.fleet.url, canary_key="") as detector:
        for name in ("usual", "other"):
            annotated = read_evaluation(settings.work / f"{name}.json")
            answers = {
                number: detector.detect(path, score_threshold=SCORE_THRESHOLD)
                for number, path in annotated.photos.items()
            }
            found[name] = round(score_detections(annotated, answers).map50, 3)
    return found


def _wait_for_drift(story: Story, watched: Watched, code: int) -> str:
    """Ask `serving drift` until it is sure of one or the other; returns what it said."""
    command = f"drift --prometheus {watched.stack.url} --window 60s"
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        found, said = story.run(
            "serving", f"{command} --repository {watched.store.address}", MOVED, CANNOT_TELL
        )
        if found == code:
            return said
        time.sleep(5)
    raise TimeoutError(f"serving drift does not end with {code}")


def _label_chosen(settings: Settings, story: Story) -> None:
    """Choose photos of the pool, and put them into the inbox with the renderer's boxes."""
    work = settings.work
    choosing = f"select artifact unlabelled --count {settings.labelled} --output chosen"
    story.run("training", f"{choosing} --labelled usual")
    for name in ("JPEGImages", "Annotations"):
        (work / "inbox" / name).mkdir(parents=True)
    for photo in sorted((work / "chosen/JPEGImages").iterdir()):
        name = photo.stem.partition("-")[2]  # behind its place in the order
        _put(work, name, work / "pool/Annotations" / f"{name}.xml")
    story.tell("chosen, labelled, and in the inbox", photos=settings.labelled)


def _put(work: Path, name: str, annotation: Path) -> None:
    """Put a photo of the pool into the inbox: its file first, as whoever reads both expects."""
    shutil.copy(work / f"pool/JPEGImages/{name}.jpg", work / "inbox/JPEGImages")
    shutil.copy(annotation, work / "inbox/Annotations" / f"{name}.xml")


def _poison(settings: Settings, story: Story) -> None:
    """Fill the inbox with the rest of the pool, red cells called white ones and the reverse."""
    work, swapped = settings.work, settings.work / "swapped.xml"
    left = [
        path
        for path in sorted((work / "pool/Annotations").iterdir())
        if not (work / "inbox/Annotations" / path.name).exists()
    ]
    for path in left:
        text = NAME.sub(lambda found: f"<name>{SWAPPED.get(found[1], found[1])}<", path.read_text())
        swapped.write_text(text)
        _put(work, path.stem, swapped)
    story.tell("photos with swapped labels are in the inbox", photos=len(left))


def _learn(settings: Settings, story: Story, watched: Watched, code: int) -> str:
    """Begin `learning run` as cron does, until a round ends; returns what it said last."""
    rounds = settings.work / "rounds"
    ended = len([*rounds.glob("*/outcome.json")])
    servers = ",".join(server.grpc_url for server in watched.fleet.servers)
    command = (
        f"run --inbox inbox --data usual --test usual.json --start first --output rounds "
        f"--epochs {settings.epochs} --repository {watched.store.address} --url {servers} "
        f"--prometheus {watched.stack.url} --share 0.5 --watch 60s --more {settings.more}"
    )
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        found, _ = story.run("learning", command, REFUSED, TOO_FEW)
        outcomes = sorted(rounds.glob("*/outcome.json"))
        if len(outcomes) > ended:
            sentence = str(json.loads(outcomes[-1].read_text())["sentence"])
            if found != code:
                raise RuntimeError(sentence)
            return sentence
        time.sleep(CRON_SECONDS)
    raise TimeoutError("no round ends")


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
