"""Starts TensorFlow, which takes seconds, for those who need it."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def start_tensorflow() -> None:
    """Import TensorFlow without the notices it writes as it starts and looks for CUDA.

    They come before its log level holds, so the error stream itself is closed to them; set
    TF_CPP_MIN_LOG_LEVEL to see them. `train` says which devices it found.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with error_stream_closed():
        importlib.import_module("tensorflow").config.list_physical_devices()


@contextlib.contextmanager
def error_stream_closed() -> Iterator[None]:
    """Keep what C++ code writes, which Python's warnings do not catch, from the error stream."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
