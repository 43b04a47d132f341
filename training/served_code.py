"""The Python of the served repository's steps, so that training calls the code that serves."""

import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).parents[1] / "model_repository"


def load_step(model: str, name: str) -> ModuleType:
    """A module of a model's first version by its bare name, as its siblings import it in Triton."""
    module = sys.modules[name] = ModuleType(name)
    path = REPOSITORY / model / "1" / f"{name}.py"
    SourceFileLoader(name, str(path)).exec_module(module)
    return module
