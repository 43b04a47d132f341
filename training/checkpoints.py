"""Checkpoints of which a reader knows that they are whole.

    ckpt-12.index, ckpt-12.data-00000-of-00001   TensorFlow's; 12 is the step
    ckpt-12.sha256                               of those two, as sha256sum writes it, last of all

TensorFlow's own checksums are looked at variable by variable, when half a network may be restored
already, and its `checkpoint` file, which names the newest, can be lost. Here a checkpoint is opened
only after all of its bytes were found as they were written; if not, the one before it.
"""

import hashlib
import shutil
import sys
from pathlib import Path

import tensorflow as tf

from training import disk

KEEP = 3


def save_checkpoint(
    checkpoint: tf.train.Checkpoint, folder: Path, step: int, keep: int = KEEP
) -> None:
    """Write one, and remove all but the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / f"ckpt-{step}"
    _remove(prefix)  # of a run that was killed here before
    try:
        checkpoint.write(str(prefix))
        _write_seal(prefix)
    except Exception:  # TensorFlow's of a full disk among them: leave it no fuller
        _remove(prefix)
        raise
    for old in _prefixes(folder)[keep:]:
        _remove(old)


def newest_whole(folder: Path) -> Path | None:
    """The newest that is whole, without its suffix; those passed over are named on stderr."""
    for prefix in _prefixes(folder):
        fault = _fault(prefix)
        if not fault:
            return prefix
        print(f"{prefix} is of no use, {fault}: taking the one before it", file=sys.stderr)
    return None


def remove_newer(folder: Path, step: int) -> None:
    """Remove what later steps left, which a run that continues at `step` will repeat."""
    for prefix in _prefixes(folder):
        if step_of(prefix) > step:
            _remove(prefix)


def step_of(prefix: Path) -> int:
    return int(prefix.name.partition("-")[2])


def _prefixes(folder: Path) -> list[Path]:
    """Newest first, whole or not."""
    found = {path.with_suffix("") for path in folder.glob("ckpt-*.*") if path.stem[5:].isdigit()}
    return sorted(found, key=step_of, reverse=True)


def _fault(prefix: Path) -> str | None:
    """What is wrong with a checkpoint; None where it is whole."""
    if not _seal(prefix).exists():
        return "its writing was cut short"
    lines = _seal(prefix).read_text(errors="replace").splitlines()
    if not lines:
        return f"{_seal(prefix).name} is empty"
    for line in lines:
        digest, _, name = line.partition("  ")
        if not name.startswith(f"{prefix.name}."):
            return f"{_seal(prefix).name} is damaged"
        if not prefix.with_name(name).exists():
            return f"{name} is missing"
        if _digest(prefix.with_name(name)) != digest:
            return f"{name} is damaged"
    return None


def _write_seal(prefix: Path) -> None:
    for path in _files(prefix):
        disk.sync_file(path)
    lines = [f"{_digest(path)}  {path.name}\n" for path in _files(prefix)]
    disk.write_file(_seal(prefix), "".join(lines))


def _files(prefix: Path) -> list[Path]:
    return sorted(prefix.parent.glob(f"{prefix.name}.[di]*"))  # data and index


def _seal(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.sha256")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(prefix: Path) -> None:
    """The seal goes first: what a removal that was cut short leaves is not whole."""
    for path in (_seal(prefix), *prefix.parent.glob(f"{prefix.name}.*")):
        path.unlink(missing_ok=True)
    # Where TensorFlow writes before it renames; it stays behind when that fails.
    shutil.rmtree(prefix.with_name(f"{prefix.name}_temp"), ignore_errors=True)
