"""Numbers and class names that files give."""

import math
from typing import Any

import pytest

from training.data import problems
from training.data.formats import values


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 10**400, "x", "", None, True, [1], {"a": 1}, "1e999"]
)
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(problems.BadObjectError, match="expected a number in bbox"):
        values.finite(value, "bbox")


@pytest.mark.parametrize("text", [None, 3, "", " \n", "a" * 10_000, [["a"] * 1000] * 1000])
def test_what_is_no_class_name(text: Any) -> None:
    with pytest.raises(problems.BadObjectError, match="expected a class name") as caught:
        values.clean_label(text)
    assert len(str(caught.value)) < 120
    assert values.clean_label(" red \t cell") == "red cell"
