"""The house: no imports in a circle, who may know whom, and what functions are called.

All that git tracks is read, nothing is imported. Imports inside functions count as all others; what
stands under `if TYPE_CHECKING` is known, but makes no circle between modules.
"""

import ast
import graphlib
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import PROJECT

ROOMS = ("app", "benchmarks", "bulk", "client", "demo", "learning", "serving", "training")
# Whom a room may know besides itself. `tests` may know all; nobody else knows `tests`.
KNOWS: dict[str, set[str]] = {
    "app": {"client", "demo", "serving"},
    "benchmarks": {"client", "serving", "training"},
    "bulk": {"client", "serving"},  # of serving: where buckets are spoken to
    "client": set(),
    "demo": {"client"},
    "learning": set(),  # the others' commands, run as a person runs them
    "serving": {"client"},
    "training": set(),
}
IN_CONTAINERS = {"numpy", "cv2", "PIL", "triton_python_backend_utils"}
TENSORFLOW = {"tensorflow", "keras", "tf2onnx"}
# What stands until it is mended: it only shrinks. The client's three are what its pages show.
LEFT_BARE = {
    "client.drawing.read",
    "client.drawing.write",
    "client.service.description.describe",
}
CODE_AND_TEXT = {".py", ".md", ".html", ".js", ".toml", ".yaml", ".sh"}
# Rooms in which every function that could be private is.
TIDY = ("benchmarks", "bulk", "learning", "training")
BARE = {"run", "read", "write", "check", "describe", "measure"}


class Import(NamedTuple):
    """One module's import of another, or of a name in it."""

    source: str
    target: str  # a module of ours, or one from elsewhere
    name: str  # what is taken from it; empty for the module itself
    bound: str  # how the importing module calls it
    for_types: bool


@cache
def tracked(pattern: str) -> list[Path]:
    """The files that git tracks, and those that it would."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", pattern]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return [path for line in done.stdout.splitlines() if (path := PROJECT / line).is_file()]


@cache
def modules() -> dict[str, Path]:
    """All Python files by dotted name; a package's `__init__` by that of the package."""
    files = {path.relative_to(PROJECT).with_suffix(""): path for path in tracked("*.py")}
    return {".".join(file.parts).removesuffix(".__init__"): path for file, path in files.items()}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text())


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


@cache
def imports_of(module: str) -> list[Import]:
    nodes = list(ast.walk(tree_of(module)))
    there_for_types = {below for node in nodes if is_for_types(node) for below in ast.walk(node)}
    found = []
    for node in nodes:
        for_types = node in there_for_types
        if isinstance(node, ast.Import):
            found += [Import(module, a.name, "", a.asname or a.name, for_types) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            found += [imported(module, node.module or "", a, for_types) for a in node.names]
    return found


def imported(source: str, module: str, alias: ast.alias, for_types: bool) -> Import:
    """`from module import name`, where the name may be a module itself."""
    whole, bound = f"{module}.{alias.name}", alias.asname or alias.name
    if whole in modules():
        return Import(source, whole, "", bound, for_types)
    return Import(source, module, alias.name, bound, for_types)


def all_imports() -> list[Import]:
    return [each for module in modules() for each in imports_of(module)]


def circle_in(edges: set[tuple[str, str]]) -> list[str]:
    """The names along one circle; empty where there is none."""
    graph: dict[str, set[str]] = {}
    for source, target in edges:
        graph.setdefault(source, set()).add(target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(reversed(error.args[1]))
    return []


def room_of(module: str) -> str:
    return module.split(".")[0]


def child_in(package: str, module: str) -> str:
    """Which file or folder of a package holds a module of it."""
    inside = module.removeprefix(package).removeprefix(".")
    return inside.split(".")[0] or "__init__"


def edges_in(package: str) -> set[tuple[str, str]]:
    """Which children of a package know which others."""
    prefix = f"{package}."
    return {
        (source, target)
        for each in all_imports()
        if f"{each.source}.".startswith(prefix) and f"{each.target}.".startswith(prefix)
        for source, target in [(child_in(package, each.source), child_in(package, each.target))]
        if source != target
    }


def packages() -> list[str]:
    """All packages of the house, the house itself as the empty name."""
    parts = [module.split(".") for module in modules()]
    return sorted({".".join(names[:end]) for names in parts for end in range(1, len(names))})


def test_no_imports_run_in_a_circle() -> None:
    edges = {
        (each.source, each.target)
        for each in all_imports()
        if each.target in modules() and not each.for_types
    }
    assert len(edges) > 1000
    assert circle_in(edges) == []


@pytest.mark.parametrize("package", packages())
def test_no_rooms_know_each_other_in_a_circle(package: str) -> None:
    assert circle_in(edges_in(package)) == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_only_whom_it_may(room: str) -> None:
    known = [each for each in all_imports() if room_of(each.source) == room]
    assert known
    strangers = {*ROOMS, "tests"} - KNOWS[room] - {room}
    assert [each for each in known if room_of(each.target) in strangers] == []


@pytest.mark.parametrize("room", ["app", "bulk", "client", "demo", "learning", "serving"])
def test_who_serves_and_asks_needs_no_tensorflow(room: str) -> None:
    assert {
        room_of(e.target) for e in all_imports() if room_of(e.source) == room
    } & TENSORFLOW == set()


def test_models_import_what_their_containers_hold() -> None:
    models = [module for module in modules() if room_of(module) == "model_repository"]
    assert len(models) > 3
    for module in models:
        siblings = {path.stem for path in modules()[module].parent.glob("*.py")}
        allowed = IN_CONTAINERS | siblings | sys.stdlib_module_names
        assert {room_of(each.target) for each in imports_of(module)} <= allowed, module


def functions_of(module: str) -> list[str]:
    """The functions of a module, methods not among them."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in tree_of(module).body if isinstance(node, kinds)]


def sources() -> list[str]:
    return [module for module in modules() if room_of(module) in ROOMS]


def test_a_functions_name_can_be_searched_for() -> None:
    found = {f"{module}.{name}" for module in sources() for name in BARE & {*functions_of(module)}}
    assert found <= LEFT_BARE


@cache
def files_by_word() -> Counter[str]:
    """In how many files of code and text each word stands."""
    texts = [path.read_text() for path in tracked("*") if path.suffix in CODE_AND_TEXT]
    return Counter(word for text in texts for word in set(re.findall(r"\w+", text)))


@pytest.mark.parametrize("room", TIDY)
def test_what_no_other_file_names_is_underscored(room: str) -> None:
    found = [
        f"{module}.{name}"
        for module in sources()
        if room_of(module) == room
        for name in functions_of(module)
        if not name.startswith("_") and name != "main" and files_by_word()[name] == 1
    ]
    assert found == []


def test_what_is_underscored_is_used_in_its_module_only() -> None:
    own = [each for each in all_imports() if each.target in modules()]
    assert [each for each in own if is_private(each.name)] == []
    assert [found for module in sources() for found in private_attributes(module)] == []


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_attributes(module: str) -> list[str]:
    """Underscored names that a module takes from others that it imported: `other._name`."""
    others = {e.bound for e in imports_of(module) if e.target in modules() and not e.name}
    return [
        f"{module}: {node.value.id}.{node.attr}"
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id in others and is_private(node.attr)
    ]
