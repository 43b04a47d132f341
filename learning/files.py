"""JSON on disk: a reader sees the old file or the new one, never a part."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from learning.errors import LearningError


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a file that is there once it is whole, also after a power cut."""
    write_text(path, json.dumps(document, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """The same of any text."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """An object of a file.

    Raises:
        LearningError: there is none.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise LearningError(f"{path} cannot be read: {error}") from None


def tell_time() -> str:
    """The time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
