"""What the repository tells: the live version, and what became of an artifact."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from learning.commands import ask_command
from learning.errors import LearningError
from learning.settings import RunSettings


@dataclass(frozen=True)
class Fate:
    """What became of an artifact.

    Attributes:
        version: that it was released as; None where it never was.
        state: "", "canary", "live", or "left" where it was one of them before.
        why: what decided the last change, and who.
        figures: mAP@0.5 of it and of the version that was live, of each set that was measured.
    """

    version: int | None = None
    state: str = ""
    why: str = ""
    figures: tuple[dict[str, Any], ...] = ()


def find_live(settings: RunSettings) -> tuple[int, str]:
    """The live version, and the fingerprint of the photos that it was trained on.

    Raises:
        LearningError: the repository does not answer, or does not hold it.
    """
    for row in _list_versions(settings):
        if row["state"] == "live":
            return row["version"], row["facts"].get("data_fingerprint", "")
    raise LearningError(f"{settings.repository} does not hold the version that is live")


def find_fate(settings: RunSettings, artifact: Path) -> Fate:
    """What became of an artifact, by its network's sha256."""
    sha256 = hashlib.sha256((artifact / "model.onnx").read_bytes()).hexdigest()
    for row in _list_versions(settings):
        if row["facts"].get("sha256") == sha256:
            figures = tuple(row["facts"].get("evaluations", ()))
            return replace(_read_fate(settings, row["version"]), figures=figures)
    return Fate()


def _read_fate(settings: RunSettings, version: int) -> Fate:
    (log,) = _ask(settings, "--log").values()
    fate = Fate()
    for change in log:
        before, after = _places(change["before"], version), _places(change["after"], version)
        if before != after:
            why = change["why"] or f"{change['by']} decided"
            fate = Fate(version, after or "left", why)
    return fate


def _places(state: dict[str, Any] | None, version: int) -> str:
    """What a version is in a state."""
    if not state or version not in (state["live"], state["canary"]):
        return ""
    return "live" if version == state["live"] else "canary"


def _list_versions(settings: RunSettings) -> list[dict[str, Any]]:
    (rows,) = _ask(settings).values()
    return list(rows)


def _ask(settings: RunSettings, *options: str) -> dict[str, Any]:
    where = ("--repository", settings.repository, "--model", settings.model)
    return dict(ask_command(("serving", "releases", "--json", *where, *options)))
