"""What all formats share: numbers, names, and how flaws are told."""

import math
from pathlib import Path
from typing import Any

import pytest

from training.data import annotations
from training.data.annotations import Problem


def test_describe_groups_and_counts() -> None:
    flaw = Problem("a.xml", 0, "zero area", "no area", "box")
    other = Problem("b\x1b.xml", None, "bad XML", "broken", "image")
    assert annotations.describe_problems([]) == []
    assert annotations.describe_problems([other, flaw, flaw, flaw], examples=2) == [
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
    lines = annotations.describe_problems([flaw, flaw, leak])
    assert lines[0] == "1 x leakage (image left out)"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("instances_train2017", "train"),
        ("Valid", "val"),
        ("my-validation_set", "val"),
        ("test-dev", "test"),
        ("trainval", "trainval"),
        ("trainee", "other"),
        ("train_val", "other"),
        ("", "other"),
    ],
)
def test_split_names(name: str, split: str) -> None:
    assert annotations.split_name(name, "other") == split


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 10**400, "x", "", None, True, [1], {"a": 1}, "1e999"]
)
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(annotations.BadObjectError, match="expected a number in bbox"):
        annotations.finite(value, "bbox")


@pytest.mark.parametrize("text", [None, 3, "", " \n", "a" * 10_000, [["a"] * 1000] * 1000])
def test_what_is_no_class_name(text: Any) -> None:
    with pytest.raises(annotations.BadObjectError, match="expected a class name") as caught:
        annotations.clean_label(text)
    assert len(str(caught.value)) < 120
    assert annotations.clean_label(" red \t cell") == "red cell"


def test_names_that_no_file_can_have() -> None:
    assert not annotations.is_file(Path("a\0b"))
    assert not annotations.is_file(Path("a" * 5000))
    assert not annotations.is_file(Path("\ud800"))
