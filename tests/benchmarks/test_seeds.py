"""Means over seeds, from the cards of finished outputs."""

from typing import Any

import pytest

from benchmarks.seeds import summarise


def card(seed: int, map50: float, fingerprint: str = "one") -> dict[str, Any]:
    metrics = {"mAP@0.5": map50, "mAP@[.5:.95]": map50 / 2, "images": 40}
    return {
        "preset": "ssd_lite0",
        "input_size": 320,
        "step": 600,
        "settings": {"seed": seed},
        "data_fingerprint": fingerprint,
        "metrics_float32": metrics,
        "metrics": {name: value - 0.01 for name, value in metrics.items()} | {"images": 40},
    }


def test_mean_and_deviation_of_each_precision() -> None:
    found = summarise([card(0, 0.9), card(1, 0.94)])
    assert found["seeds"] == [0, 1]
    expected = {"each": [0.9, 0.94], "mean": 0.92, "deviation": 0.0283}
    assert found["float32"]["mAP@0.5"] == expected
    assert found["int8"]["mAP@[.5:.95]"]["mean"] == 0.45


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ([card(0, 0.9), card(1, 0.9, "other")], "different photos"),
        ([card(0, 0.9), card(0, 0.9)], "a seed of its own"),
    ],
)
def test_what_cannot_be_averaged(cards: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarise(cards)
