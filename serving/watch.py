"""Sees which models of a repository folder changed, once the change has come to rest."""

from pathlib import Path

Snapshot = dict[str, frozenset[tuple[str, int, int]]]  # by model: file, mtime in ns, bytes


class Watch:
    """Compares the folder with what it was. `changes` is to be called every second or so."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._known = self._last = snapshot(repository)

    def changes(self) -> tuple[list[str], list[str]]:
        """Models that are new or changed, and models that are gone, since the last answer.

        A change counts when two looks in a row agree, so that a copy in progress can end.
        """
        now = snapshot(self._repository)
        settled, self._last = now == self._last, now
        if not settled or now == self._known:
            return [], []
        known, self._known = self._known, now
        changed = sorted(model for model in now if now[model] != known.get(model))
        return changed, sorted(known.keys() - now.keys())


def snapshot(repository: Path) -> Snapshot:
    """The state of every model's files. Hidden files and Python's caches do not count."""
    models = [path.parent for path in repository.glob("*/config.pbtxt")]
    return {model.name: frozenset(describe(model)) for model in models}


def describe(model: Path) -> list[tuple[str, int, int]]:
    """Name, time and size of each of the model's files."""
    found = []
    for path in model.rglob("*"):
        name = path.relative_to(model)
        if any(part.startswith(".") or part == "__pycache__" for part in name.parts):
            continue
        try:
            status = path.stat()
        except FileNotFoundError:  # just removed
            continue
        if path.is_dir():  # its time changes with what does not count
            found.append((str(name), 0, 0))
        else:
            found.append((str(name), status.st_mtime_ns, status.st_size))
    return found
