"""Kills a program at each of its steps on the disk, and looks at what is left.

    killed.py FOLDER

Each time in a folder of its own and a process of its own, at the first step, the second, and so on
until it is through. Prints what it did, how often it was killed, and how often that was there after
all.
"""

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from client import Box, Detection, Result
from client.inbox.photo import image_id
from client.inbox.samples import Samples
from demo.corrections.folder import Corrections
from demo.corrections.people import OWNER, Person
from demo.corrections.review import Review

LABELS = ("RBC", "WBC")
VISITOR, ANN = Person("visitor"), Person("ann", may_review=True)
STEPS = ("replace", "fsync", "link", "unlink", "open")  # of `os`, each also once before it
BOXES = [{"label": "RBC", "x1": 2, "y1": 2, "x2": 9, "y2": 9}]
FOUND = Result((Detection("RBC", 0, 0.6, Box(2, 2, 9, 9)),), 20, 16)


def encode_photo(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 20, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def prepare(folder: Path | str) -> Corrections:
    """A proposal of one photo, and boxes of another that count."""
    kept = Corrections(folder, LABELS)
    kept.save(encode_photo(0), BOXES, VISITOR)
    kept.save(encode_photo(1), BOXES, OWNER)
    return kept


def act(what: str, kept: Corrections) -> None:
    review = Review(kept)
    if what == "propose":
        kept.save(encode_photo(1), BOXES, VISITOR)
    elif what == "sample":
        Samples(kept.inbox, 5).offer(encode_photo(2), FOUND, str)
    else:
        (name,) = review.list_names(ANN)
        case = review.open_case(name)
        assert case
        if what == "accept":
            review.accept(case, BOXES, ANN)
        else:
            review.refuse(case, ANN)


def kill_at(step: int) -> None:
    """Have this process killed before a step on the disk, counted from 1."""
    count = iter(range(1, 10_000))

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(count) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for name in STEPS:
        setattr(os, name, watched(getattr(os, name)))


def run_killed(what: str, kept: Corrections, step: int) -> bool:
    """Whether it was killed there."""
    process = os.fork()
    if not process:
        kill_at(step)
        act(what, kept)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status) or status == 0, f"step {step}: {status}"
    return os.WIFSIGNALED(status)


def check_rest(what: str, folder: Path | str, was_killed: bool) -> bool:
    """Whether what was done is there; all that was acknowledged before has to be."""
    kept = Corrections(folder)
    review = Review(kept)
    assert kept.load(encode_photo(1)), "what counted before is lost"
    waiting = bool(kept.open(encode_photo(0), VISITOR).proposal)
    history = review.tell_history(image_id(encode_photo(0)))
    assert waiting or history, "what was proposed before is lost"
    for name in review.list_names(ANN):
        assert review.open_case(name), f"{name} is not whole"
    done = {
        "propose": bool(kept.open(encode_photo(1), VISITOR).proposal),
        "sample": len(review.list_names(ANN)) == 2,
        "accept": kept.load(encode_photo(0)) is not None,
        "refuse": bool(history) and not waiting,
    }[what]
    assert done or was_killed, "acknowledged, and not there"
    return done


def main(what: str, top: Path) -> None:
    killed, whole, step = 0, 0, 1
    while True:
        folder = top / what / str(step)
        was_killed = run_killed(what, prepare(folder), step)
        whole += check_rest(what, folder, was_killed)
        killed += was_killed
        if not was_killed:
            break
        act_again(what, folder)
        step += 1
    print(what, killed, whole)


def act_again(what: str, folder: Path | str) -> None:
    """The same once more works, whatever the kill has left."""
    kept = Corrections(folder)
    if what in ("propose", "sample") or Review(kept).list_names(ANN):
        act(what, kept)


if __name__ == "__main__":
    for each in ("propose", "accept", "refuse", "sample"):
        main(each, Path(sys.argv[1]))
