from training.data import problems
from training.data.problems import Problem


def test_describe_groups_and_counts() -> None:
    flaw = Problem("a.xml", 0, "zero area", "no area", "box")
    other = Problem("b\x1b.xml", None, "bad XML", "broken", "image")
    assert problems.describe_problems([]) == []
    assert problems.describe_problems([other, flaw, flaw, flaw], examples=2) == [
        "3 x zero area (box left out)",
        "    a.xml, object 0: no area",
        "    a.xml, object 0: no area",
        "    and 1 more",
        "1 x bad XML (image left out)",
        "    'b\\x1b.xml': broken",
    ]


def test_leakage_is_told_first() -> None:
    """One copy of a val image in train falsifies every figure, however much else is wrong."""
    flaw = Problem("a.xml", 0, "zero area", "no area", "box")
    leak = Problem("a.jpg", None, "leakage", "the same picture as b.jpg, which is in val", "image")
    lines = problems.describe_problems([flaw, flaw, leak])
    assert lines[0] == "1 x leakage (image left out)"
