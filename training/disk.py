"""Files that have their name only once they are whole, and what a full disk is called.

What is written lies beside its place first, under another name; it is forced to the disk, for some
file systems say only then that they are full, and renamed. So an older file stays until the new one
is whole. The writers of whole folders (records, report, artifact, pruned run) do the same with a
folder.
"""

import errno
import os
from pathlib import Path

FULL = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8.

    Raises:
        OSError: the system refuses; what was there before is then still there.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        sync_file(partial)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def sync_file(path: Path) -> None:
    """Force a file's content to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sentence(error: Exception) -> str:
    """An error as a user reads it. TensorFlow's of a full disk are no OSError, but name it too."""
    if not is_full(error):
        return str(error)
    text = str(error).split("}} ")[-1].split(" [Op:")[0]
    return (
        f"there is no room to write ({text}): free some space, or name another folder, and give "
        "the same command again. What was whole before is as it was"
    )


def is_full(error: Exception) -> bool:
    """Whether it is a full disk, a quota, or a limit of a file's size that stopped a writer."""
    return any(reason in str(error) for reason in FULL)
