"""`learning run`: a round of the loop, from the inbox to a released version or a refusal."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from learning.engine import Stopped, take_steps
from learning.errors import LearningError, UndecidedError
from learning.page import write_page
from learning.released import find_fate
from learning.round import REFUSED, RELEASED, Round, open_round
from learning.settings import RunSettings
from learning.steps import plan_steps

UNDECIDED = 4  # of `serving judge`
INTERRUPTED = 130


def run_round(settings: RunSettings) -> int:
    """Go on with the round that was begun, or begin one. Returns the exit code.

    Raises:
        LearningError: a step failed; the same command goes on with it.
    """
    _check_files(settings)
    with _lock(settings.output):
        current = open_round(settings)
        if current is None:
            return RELEASED
        print(f"round {current.folder.name}: {len(current.begun['photos'])} photos in the inbox")
        try:
            _take_round(settings, current)
        finally:
            page = write_page(settings.output)
        outcome = current.outcome or {}
        print(f"\n{outcome['sentence']}\nreport: {page}")
        return int(outcome["exit_code"])


def _take_round(settings: RunSettings, current: Round) -> None:
    for leftover in current.folder.glob(".export-*"):  # of a killed export
        shutil.rmtree(leftover)
    number, live = current.folder.name, current.begun["live"]
    try:
        take_steps(plan_steps(settings, current), current.folder / "steps")
    except Stopped as stop:
        if stop.code != stop.step.refuses:
            raise _explain(stop) from None
        kept = f"Version {live} stays live"
        why = f"Round {number} is refused by {stop.step.name}: {stop}. {kept}."
        current.end(REFUSED, why + stop.step.advice)
        return
    fate = find_fate(settings, current.folder / "artifact")
    if fate.state == "live":
        sentence = f"Round {number} is released: version {fate.version} is live."
        current.end(RELEASED, sentence, fate.figures)
    else:
        sentence = f"Round {number}: version {fate.version} was rolled back: {fate.why}"
        current.end(REFUSED, sentence, fate.figures)


def _explain(stop: Stopped) -> LearningError:
    if (stop.step.name, stop.code) == ("judge", UNDECIDED):
        return UndecidedError(f"{stop}. The canary stays: give the same command again")
    if stop.step.hours is not None and stop.code == INTERRUPTED:
        return UndecidedError(
            f"{stop.step.name} has taken its {stop.step.hours:g} hours (--hours): the same command "
            "goes on with it"
        )
    return LearningError(
        f"{stop.step.name} failed with exit code {stop.code}: {stop}. Its output is {stop.log}; "
        "the same command goes on with this step"
    )


def _check_files(settings: RunSettings) -> None:
    """Before anything is written."""
    if settings.prometheus and not settings.url:
        raise LearningError("--prometheus watches a canary on servers: name them with --url")
    for option, path in (("--test", settings.test), ("--start", settings.start / "run.json")):
        if not path.is_file():
            raise LearningError(f"{option}: {path} does not exist")


@contextmanager
def _lock(output: Path) -> Iterator[None]:
    """Only one command works on a folder of rounds; the kernel frees it when that ends."""
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LearningError(f"another `learning run` is at work in {output}") from None
        yield
