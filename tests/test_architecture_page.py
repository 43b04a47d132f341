"""docs/architecture.md names functions; a test has to know that they exist."""

import ast
import re

from tests.conftest import PROJECT

PAGE = PROJECT / "docs" / "architecture.md"
NAMED = re.compile(r"`([\w.]+)`\s+\(\[[^\]]+\]\(\.\./([\w/.]+)\)\)")


def test_every_function_that_it_names_exists() -> None:
    named = NAMED.findall(PAGE.read_text("utf-8"))
    assert len(named) > 30
    for name, path in named:
        tree = ast.parse((PROJECT / path).read_text("utf-8"))
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        defined = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
        assert set(name.split(".")) <= defined, f"{name} in {path}"


def test_every_room_is_on_the_floor_plan() -> None:
    page = PAGE.read_text("utf-8")
    for top in ("client", "serving", "training"):
        rooms = {path.parent for path in (PROJECT / top).glob("*/__init__.py")}
        rooms.discard(PROJECT / "client" / "examples")
        for room in rooms:
            assert f"`{room.relative_to(PROJECT)}/`" in page
