"""SECURITY.md names a test for each promise; each is there, under that name."""

import re

from tests.conftest import PROJECT

FILE = re.compile(r"\]\((tests/[\w/]+\.py)\)((?: (?:`\w+`,? ?)+)?)")


def test_each_test_that_is_named_is_there() -> None:
    found = FILE.findall((PROJECT / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(found) > 20
    for file, names in found:
        text = (PROJECT / file).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert f"def {name}(" in text, f"{file} has no {name}"
