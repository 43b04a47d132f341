"""Keeps away what OpenCV and FFmpeg write of a file or a camera."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

# What FFmpeg says of broken videos is for its developers; -8 is its AV_LOG_QUIET. Set before its
# first use in this process.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep away what they write of a file or a camera that they open.

    They write to the file descriptor itself, past sys.stderr.
    """
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
