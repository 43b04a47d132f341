"""The Python of a repository's steps, loaded from its folder without Triton.

What preprocess and postprocess do stands in modules beside their model.py, and Triton puts that
folder on the path, so that they import one another by bare names. Here each folder has an `import`
of its own instead: nothing of the program's changes, and modules of two repositories, or of the
program itself, may have the same names. Nothing is written either: a folder `__pycache__` would be
an update to a server that watches the repository.
"""

import builtins
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def load_module(folder: Path, name: str) -> ModuleType:
    """Return a module of a version's folder, anew with each call.

    Raises:
        OSError: there is no such file.
        Exception: whatever its code raises, ImportError for a package that is not installed.
    """
    return Siblings(folder).load(name)


class Siblings:
    """Stands in for `__import__` in the modules of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loaded: dict[str, ModuleType] = {}

    def __call__(self, name: str, *details: Any) -> ModuleType:
        """Import one of them, or else what Python finds by that name."""
        if (self.folder / f"{name}.py").is_file():
            return self.load(name)
        return builtins.__import__(name, *details)

    def load(self, name: str) -> ModuleType:
        if name not in self.loaded:
            path = self.folder / f"{name}.py"
            code = compile(path.read_bytes(), path, "exec")
            module = self.loaded[name] = ModuleType(f"{self.folder}/{name}")
            module.__file__ = str(path)
            vars(module)["__builtins__"] = vars(builtins) | {"__import__": self}
            sys.modules[module.__name__] = module  # where dataclasses look
            exec(code, vars(module))
        return self.loaded[name]
