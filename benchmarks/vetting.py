"""How often `training vet` refuses good annotations, and how much must be wrong until it refuses.

    python -m benchmarks.vetting data/bccd model_repository/ssd/2/model.onnx \\
        --output benchmarks/results/vetting.json

Photos are dealt into two halves at random, again and again. One is trusted; in the other the
annotations of some of the photos, or of all, are made wrong: labels of two classes swapped, boxes
shifted by a part of their width. The network may have been trained on both halves alike.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from training.data.folder_settings import FolderSettings
from training.evaluation.score import Truth
from training.network.onnx_network import load_onnx
from training.vetting import vet
from training.vetting.disagreement import compare_disagreements

Change = Callable[[Truth], Truth]


@dataclass(frozen=True)
class Settings:
    """What is vetted, and how often."""

    photos: Annotated[Path, tyro.conf.Positional]
    """Annotated folder."""
    network: Annotated[Path, tyro.conf.Positional]
    """The model.onnx of an artifact."""
    output: Path
    """JSON file to write."""
    draws: int = 100
    """Pairs of halves."""
    more: float = 0.1
    """As of `training vet`."""


def _swap(truth: Truth) -> Truth:
    """The first two classes."""
    classes = np.where(truth.classes < 2, 1 - truth.classes, truth.classes)
    return replace(truth, classes=classes)


def _shift(truth: Truth, share: float) -> Truth:
    """To the right; what leaves the photo is cut."""
    boxes = truth.boxes_xyxy.copy()
    boxes[:, ::2] += share * (boxes[:, 2:3] - boxes[:, :1])
    boxes[:, ::2] = np.clip(boxes[:, ::2], [0, 1], [truth.width - 1, truth.width])
    return replace(truth, boxes_xyxy=boxes)


WRONG: dict[str, tuple[Change, float]] = {  # how, and in which share of the new photos
    "nothing": (lambda truth: truth, 1.0),
    **{f"labels swapped in {s:.0%}": (_swap, s) for s in (0.1, 0.2, 0.5, 1.0)},
    **{
        f"boxes shifted by {by:.0%} in {s:.0%}": (partial(_shift, share=by), s)
        for by, s in ((0.1, 1.0), (0.15, 1.0), (0.25, 0.1), (0.25, 0.2), (0.25, 1.0))
    },
}


def main(settings: Settings) -> None:
    """Measure, print and write."""
    network = load_onnx(settings.network)
    batch = vet.read_batch(FolderSettings((settings.photos,)), network, frozenset())
    good = vet.count_batch(batch, network)
    rng, half = np.random.default_rng(0), len(good) // 2
    refused = {}
    for name, (change, share) in WRONG.items():
        wrong = replace(batch, truth=[change(truth) for truth in batch.truth])
        bad, found = vet.count_batch(wrong, network), 0
        for draw in range(settings.draws):
            order = rng.permutation(len(good))
            new, trusted = order[:half], order[half:]
            counts = np.where(rng.random((half, 1, 1, 1)) < share, bad[new], good[new])
            ratios = compare_disagreements(counts, good[trusted], network.labels, draw)
            found += bool(vet.find_systematic(ratios, settings.more))
        refused[name] = found / settings.draws
        print(f"{name}: refused {refused[name]:.0%}", flush=True)
    facts = {"photos": len(good), "draws": settings.draws, "more": settings.more}
    settings.output.write_text(json.dumps(facts | {"refused": refused}, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings))
