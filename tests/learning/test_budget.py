import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from learning.budget import count_week, make_room
from learning.errors import LearningError


def test_rounds_of_the_last_seven_days_count() -> None:
    now = datetime.now(UTC)
    begun = [(now - timedelta(days=days)).isoformat(timespec="seconds") for days in (0, 6, 8, 30)]
    assert count_week(begun) == 2


def write_round(folder: Path) -> Path:
    """2 MB that may go, a photo that has two names and counts once, and 1 MB that stays."""
    for name, size in (
        ("records/train-00000-of-00001.tfrecord", 1_000_000),
        ("records/train.json", 10),
        ("run/checkpoints/step-9.index", 1_000_000),
        ("inbox/JPEGImages/a.jpg", 1_000_000),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(size))
    (folder / "arrived/JPEGImages").mkdir(parents=True)
    os.link(folder / "inbox/JPEGImages/a.jpg", folder / "arrived/JPEGImages/a.jpg")
    return folder


def test_what_is_bulky_of_the_oldest_rounds_goes_first(tmp_path: Path) -> None:
    old, new = write_round(tmp_path / "0001"), write_round(tmp_path / "0002")
    before = set(new.rglob("*"))
    make_room(tmp_path, [old, new], 5)
    left = {path.relative_to(old).as_posix() for path in old.rglob("*") if path.is_file()}
    assert left == {"records/train.json", "run/checkpoints/step-9.index"}
    assert set(new.rglob("*")) == before
    with pytest.raises(LearningError, match=r"takes 2 MB, more than --disk 1, and all that may go"):
        make_room(tmp_path, [old, new], 1)
