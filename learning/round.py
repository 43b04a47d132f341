"""A round: what came into the inbox, and all that was made of it.

    OUTPUT/0001/begun.json     settings, the digest of each photo, the run that it starts from
    OUTPUT/0001/inbox/         the photos as they were then
    OUTPUT/0001/arrived/       those of them that are new or changed since the last release
    OUTPUT/0001/steps/         of each step its log, and a JSON once it is done
    OUTPUT/0001/outcome.json   released or refused, and why; with it the round is over
    OUTPUT/0001/...            what the steps make

The folder gets its number when its beginning is whole.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from learning.budget import count_week, make_room
from learning.errors import LearningError
from learning.files import read_json, tell_time, write_json
from learning.inbox import copy_inbox, fetch_inbox, link_photos
from learning.released import find_live
from learning.settings import RunSettings

# Where servers and photos are may change within a round, and how long a canary is watched.
FREE = (
    *("inbox", "output", "url", "prometheus", "watch", "share", "start", "new"),
    *("week", "hours", "disk"),
)
RELEASED, REFUSED = 0, 3


@dataclass(frozen=True)
class Round:
    """A folder of the rounds."""

    folder: Path

    @cached_property
    def begun(self) -> dict[str, Any]:
        """What it was begun with."""
        return read_json(self.folder / "begun.json")

    @property
    def outcome(self) -> dict[str, Any] | None:
        """The exit code and a sentence; None while it is not over."""
        path = self.folder / "outcome.json"
        return read_json(path) if path.exists() else None

    @property
    def run(self) -> Path:
        """Its training."""
        return self.folder / "run"

    def end(self, exit_code: int, sentence: str, figures: Sequence[dict[str, Any]] = ()) -> None:
        """Write the outcome, with what was measured of a version that was released."""
        document = {"exit_code": exit_code, "sentence": sentence, "at": tell_time()}
        document["figures"] = list(figures)
        write_json(self.folder / "outcome.json", document)


def list_rounds(output: Path) -> list[Round]:
    """All rounds, the earliest first."""
    return [Round(path.parent) for path in sorted(output.glob("[0-9]*/begun.json"))]


def open_round(settings: RunSettings) -> Round | None:
    """The round that was begun, or a new one; None while too few photos are new.

    Raises:
        LearningError: the inbox, the repository or the settings do not allow one.
    """
    rounds = list_rounds(settings.output)
    if rounds and not rounds[-1].outcome:
        _check_settings(rounds[-1], settings)
        return rounds[-1]
    if (week := count_week(each.begun["at"] for each in rounds)) >= settings.week:
        print(f"rounds begun in the last seven days: {week}; the next one waits (--week)")
        return None
    begins = settings.output / ".begins"
    shutil.rmtree(begins, ignore_errors=True)  # of a killed command
    inbox = fetch_inbox(settings.inbox, settings.output)
    photos = copy_inbox(inbox, begins / "inbox")
    if not _is_enough(photos, rounds, settings):
        shutil.rmtree(begins)
        return None
    make_room(settings.output, [each.folder for each in rounds], settings.disk)
    live, start = _find_start(settings, rounds)
    learned = _find_learned(rounds)
    arrived = [name for name, digest in photos.items() if learned.get(name) != digest]
    link_photos(begins / "inbox", begins / "arrived", arrived)
    begun = {"photos": photos, "live": live, "start": str(start), "at": tell_time()}
    begun |= {"arrived": len(arrived), "changed": len(learned.keys() & arrived)}
    write_json(begins / "begun.json", begun | {"settings": _plain(settings)})
    folder = settings.output / f"{int(rounds[-1].folder.name) + 1 if rounds else 1:04}"
    return Round(begins.rename(folder))


def _find_start(settings: RunSettings, rounds: list[Round]) -> tuple[int, Path]:
    """The live version, and the run that it was exported from.

    Raises:
        LearningError: none of the known runs was trained on its photos.
    """
    live, fingerprint = find_live(settings)
    for run in (*(each.run for each in reversed(rounds)), settings.start):
        path = run / "run.json"
        if path.exists() and read_json(path).get("fingerprint") == fingerprint:
            return live, run
    raise LearningError(
        f"version {live} is live in {settings.repository}, and neither {settings.start} nor a "
        f"round in {settings.output} was trained on its photos (fingerprint {fingerprint[:12]}): "
        "name its run folder with --start"
    )


def _is_enough(photos: dict[str, str], rounds: list[Round], settings: RunSettings) -> bool:
    """Whether so many changed since the last release, and anything since the last round. Says so.

    What was refused is not tried again, unless with other settings.
    """
    since = _count_changed(photos, _find_learned(rounds))
    same = rounds and not _count_changed(photos, rounds[-1].begun["photos"])
    if same and (_was_released(rounds[-1]) or not _list_changed(rounds[-1], settings)):
        print(f"nothing new in the inbox since round {rounds[-1].folder.name}")
        return False
    if since < settings.new:
        print(f"new or changed photos: {since}; a round begins with {settings.new} (--new)")
    return since >= settings.new


def _find_learned(rounds: list[Round]) -> dict[str, str]:
    """The photos of the last round that was released."""
    return next((each.begun["photos"] for each in reversed(rounds) if _was_released(each)), {})


def _was_released(round_: Round) -> bool:
    return (round_.outcome or {}).get("exit_code") == RELEASED


def _count_changed(photos: dict[str, str], before: dict[str, str]) -> int:
    return len({name for name, _ in photos.items() ^ before.items()})


def _check_settings(begun: Round, settings: RunSettings) -> None:
    """Raise LearningError where a round was begun with other settings."""
    changed = _list_changed(begun, settings)
    if changed:
        raise LearningError(
            f"{begun.folder} was begun with other settings: {', '.join(changed)}. Give the same "
            "ones to go on, or remove that folder to begin anew"
        )


def _list_changed(begun: Round, settings: RunSettings) -> list[str]:
    """The settings that are others than a round's, of those that may not change within one."""
    now, before = _plain(settings), begun.begun["settings"]
    return [
        f"--{name.replace('_', '-')} (was {before.get(name)!r}, now {value!r})"
        for name, value in now.items()
        if name not in FREE and before.get(name) != value
    ]


def _plain(settings: RunSettings) -> dict[str, Any]:
    return dict(_plain_items(asdict(settings)))


def _plain_items(settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, tuple):
            yield name, [str(each) for each in value]
        else:
            yield name, str(value) if isinstance(value, Path) else value
