from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from training import checkpoints


def _save(folder: Path, steps: list[int]) -> None:
    for step in steps:
        checkpoints.save_checkpoint(tf.train.Checkpoint(steps=tf.Variable(step)), folder, step)


def _read(prefix: Path) -> int:
    return int(tf.train.load_checkpoint(str(prefix)).get_tensor("steps/.ATTRIBUTES/VARIABLE_VALUE"))


def test_no_folder_holds_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoints.newest_whole(tmp_path / "none") is None


def test_the_newest_are_kept(tmp_path: Path) -> None:
    _save(tmp_path, [8, 9, 10, 11])
    newest = checkpoints.newest_whole(tmp_path)
    assert newest == tmp_path / "ckpt-11"
    assert _read(newest) == checkpoints.step_of(newest) == 11
    stems = {path.stem for path in tmp_path.iterdir()}
    assert stems == {"ckpt-9", "ckpt-10", "ckpt-11"}


def test_the_seal_is_one_of_sha256sum(tmp_path: Path) -> None:
    _save(tmp_path, [1])
    rows = [line.split("  ") for line in (tmp_path / "ckpt-1.sha256").read_text().splitlines()]
    assert [name for _, name in rows] == ["ckpt-1.data-00000-of-00001", "ckpt-1.index"]
    assert {len(digest) for digest, _ in rows} == {64}


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("suffix", "harm", "message"),
    [
        ("data-00000-of-00001", _truncate, "ckpt-2.data-00000-of-00001 is damaged"),
        ("data-00000-of-00001", _flip, "ckpt-2.data-00000-of-00001 is damaged"),
        ("index", _flip, "ckpt-2.index is damaged"),
        ("index", Path.unlink, "ckpt-2.index is missing"),
        ("sha256", Path.unlink, "its writing was cut short"),
        ("sha256", _truncate, "ckpt-2.ind is missing"),
        ("sha256", lambda path: path.write_bytes(b""), "ckpt-2.sha256 is empty"),
        ("sha256", lambda path: path.write_bytes(b"\x00\xff" * 99), "ckpt-2.sha256 is damaged"),
    ],
)
def test_a_damaged_one_is_passed_over(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    suffix: str,
    harm: Callable[[Path], object],
    message: str,
) -> None:
    _save(tmp_path, [1, 2])
    harm(tmp_path / f"ckpt-2.{suffix}")
    assert checkpoints.newest_whole(tmp_path) == tmp_path / "ckpt-1"
    said = capsys.readouterr().err
    assert message in said
    assert "taking the one before it" in said


def test_later_steps_are_removed(tmp_path: Path) -> None:
    _save(tmp_path, [1, 2, 3])
    checkpoints.remove_newer(tmp_path, 1)
    assert {path.stem for path in tmp_path.iterdir()} == {"ckpt-1"}


def test_a_step_that_was_cut_short_is_saved_again(tmp_path: Path) -> None:
    _save(tmp_path, [1, 2])
    (tmp_path / "ckpt-2.sha256").unlink()
    (tmp_path / "ckpt-2.data-00000-of-00001").write_bytes(b"a part")
    _save(tmp_path, [2])
    assert checkpoints.newest_whole(tmp_path) == tmp_path / "ckpt-2"
