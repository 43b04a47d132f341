"""What the loop is told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

OF_PRESET = tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the preset's)")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Learn from corrected photos: check, train, measure, export and release, each once.

    The same command again goes on where it was stopped or killed, and begins a new round when
    enough photos came. Exit code: 0 released, or nothing to do; 3 refused, and what is live is
    untouched; 4 too few requests to judge the canary, give the command again; 1 an error; 2 wrong
    usage.
    """

    inbox: str
    """Folder of corrected photos in Pascal VOC, or bucket such as s3://bucket/inbox, as `app.py
    --corrections` keeps it."""
    data: tuple[Path, ...] = ()
    """Folders of the annotated photos so far, learned from again."""
    test: Path
    """COCO JSON of the frozen test set: its photos are never learned from. A version that is worse
    on them, or on the photos of the inbox that are held out, is not released."""
    start: Path
    """Run folder of the first model. Later rounds start from the run behind the live version."""
    output: Path
    """Folder of the rounds, and of index.html, which tells of them."""
    repository: str
    """Model repository: a folder, or an address such as s3://bucket/models."""
    model: str = "ensemble"
    """The task's ensemble."""
    url: str = ""
    """The running servers, as `serving publish --url` takes them. Their admin key stands in the
    environment variable TRITON_ADMIN_KEY."""
    prometheus: str = ""
    """Address of the Prometheus that scrapes them: a new version is a canary first, and is judged.
    Without it the gate of `serving publish` decides alone."""
    share: float = 0.1
    """Share of the clients that ask for canaries, 0 to 1."""
    watch: str = "10m"
    """How long the canary is watched, such as 90s, 10m or 1h."""
    new: int = 20
    """Photos that must be new or changed for a round to begin."""
    week: int = 7
    """Rounds that may begin in seven days; a further one waits."""
    hours: float = 8.0
    """How long a training may take in one go: then it stops, and the same command goes on with it,
    such as the next night."""
    disk: int = 50_000
    """Megabytes that the folder of the rounds may take: before a round begins, what is bulky of the
    oldest ones goes."""
    epochs: Annotated[int | None, OF_PRESET] = None
    """Passes over the photos."""
    copies: float = 0.1
    """Share of the new photos that may be copies, of each other or of photos so far, 0 to 1."""
    more: float = 0.1
    """By how much more the live network may disagree with their boxes than with --data's, 0 to
    1."""
    precision: Literal["float32", "float16", "int8"] = "int8"
    """What the released network computes in."""
    map_tolerance: float = 0.01
    """By how much mAP@0.5 may be lower than the live version's on either, 0 to 1."""
