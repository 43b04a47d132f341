"""What the loop may use up: rounds in a week, and disk."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from learning.errors import LearningError

WEEK = timedelta(days=7)
MEGABYTE = 1_000_000
# What nobody needs of a round that is over: what it was made of, told by begun.json and train.json.
BULKY = (
    "inbox/JPEGImages/*",
    "arrived/JPEGImages/*",
    "records/*.tfrecord",
    "live/**/*",
    "run/tensorboard/**/*",
)


def count_week(begun: Iterable[str]) -> int:
    """How many of these times, as `tell_time` gives them, are of the last seven days."""
    since = datetime.now(UTC) - WEEK
    return sum(datetime.fromisoformat(at) > since for at in begun)


def make_room(output: Path, over: Sequence[Path], megabytes: int) -> None:
    """Remove what is bulky of rounds that are over, the oldest first, until the rest is in bounds.

    Args:
        output: the folder of all rounds.
        over: the folders of those that are over, the oldest first.
        megabytes: that `output` may take.

    Raises:
        LearningError: it takes more all the same.
    """
    for folder in over:
        if _measure(output) <= megabytes * MEGABYTE:
            return
        for pattern in BULKY:
            for path in filter(Path.is_file, folder.glob(pattern)):
                path.unlink()
    if (size := _measure(output)) > megabytes * MEGABYTE:
        raise LearningError(
            f"{output} takes {size / MEGABYTE:,.0f} MB, more than --disk {megabytes:,}, and all "
            "that may go has gone: allow more, or remove rounds that are over, except the one "
            "behind the live version"
        )


def _measure(folder: Path) -> int:
    """Bytes of all files; of those with several names, as an inbox's photos have, once."""
    found = (path.lstat() for path in folder.rglob("*"))
    return sum({(each.st_dev, each.st_ino): each.st_size for each in found}.values())
