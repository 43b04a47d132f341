"""How often `serving drift` cries wolf, and what it takes to make it cry.

    python -m benchmarks.drift data/bccd/JPEGImages --output benchmarks/results/drift.json

Photos are measured one by one by the served code and the live network, so that whatever goes
together within a photo still does when a reference and a window are put together of them. Nothing
changes where both are drawn from the same photos. What changes is drawn by `training/render`:
another stain, blur, exposure, stronger compression, half the size.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import cv2
import numpy as np
import tyro
from tqdm import tqdm

from benchmarks.measurement import machine
from serving.monitoring import judgement
from serving.monitoring.figures import make_samples
from serving.monitoring.histogram import Histogram
from serving.monitoring.judgement import Sample, count_needed
from serving.monitoring.statistic import SCORE, Statistic
from serving.monitoring.verdict import MOVED, Verdict, judge_samples
from training.export.reference import measure_files
from training.network.onnx_network import OnnxNetwork, load_onnx
from training.render import microscope, stains
from training.render.smears import render_photo

REFERENCES = (58, 87, 200, 1000)  # images
NETWORK = Path("model_repository/ssd/2/model.onnx")
Change = Callable[[np.ndarray], np.ndarray]  # of a photo, uint8 BGR [H, W, 3]


@dataclass(frozen=True)
class Settings:
    """Measure the rate of false alarms, and how many photos raise a true one."""

    photos: Annotated[Path, tyro.conf.Positional]
    """Folder of real photos."""
    network: Path = NETWORK
    """What detects in them."""
    rendered: int = 200
    """Smears drawn for each condition."""
    windows: int = 1000
    """Windows drawn for each figure."""
    output: Path = Path("benchmarks/results/drift.json")
    """Takes the figures."""


class Population:
    """Photos to draw from, each measured by itself.

    Args:
        edges: of each statistic's histogram.
        counts: of each, [photos, bins].
    """

    def __init__(
        self, edges: Mapping[Statistic, np.ndarray], counts: Mapping[Statistic, np.ndarray]
    ) -> None:
        self._edges, self._counts = edges, counts
        self.size = len(next(iter(counts.values())))
        self.statistics = len(edges)

    def take(self, photos: np.ndarray) -> dict[Statistic, Sample]:
        """What is measured of some photos, by their numbers."""
        times = np.bincount(photos, minlength=self.size)
        return make_samples(
            {
                statistic: Histogram(edges, times @ self._counts[statistic])
                for statistic, edges in self._edges.items()
            }
        )

    def draw(self, rng: np.random.Generator, images: int) -> dict[Statistic, Sample]:
        """What is measured of some photos, each drawn from all."""
        return self.take(rng.integers(self.size, size=images))


def measure_population(network: OnnxNetwork, files: Sequence[bytes]) -> Population:
    """Measure encoded photos by the served code."""
    found: dict[Statistic, list[Any]] = {}
    for file in tqdm(files, unit="image", leave=False, disable=None):
        images, detections = measure_files(network, [file], network.labels)
        for name, histogram in images.histograms.items():
            found.setdefault(Statistic(name), []).append(histogram)
        for label, one, other in zip(
            detections.labels, detections.per_image, detections.scores, strict=True
        ):
            found.setdefault(Statistic("detections_per_image", label), []).append(one)
            found.setdefault(Statistic("detection_score", label), []).append(other)
    return Population(
        {statistic: np.array(each[0].edges, float) for statistic, each in found.items()},
        {statistic: np.array([one.counts for one in each]) for statistic, each in found.items()},
    )


def render_photos(count: int, seed: int, size: tuple[int, int] = (320, 240)) -> list[np.ndarray]:
    """Smears, uint8 BGR [H, W, 3]; what the network sees is about as large."""
    generators = [np.random.default_rng([seed, number]) for number in range(count)]
    return [
        render_photo(rng, size)[0]
        for rng in tqdm(generators, unit="smear", leave=False, disable=None)
    ]


def encode_photos(
    photos: Sequence[np.ndarray],
    change: Change = lambda photo: photo,
    quality: int = microscope.JPEG_QUALITY,
) -> list[bytes]:
    """JPEG files of what becomes of photos."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return [cv2.imencode(".jpg", change(photo), options)[1].tobytes() for photo in photos]


@contextmanager
def stained(strength: float) -> Iterator[None]:
    """Smears that are drawn meanwhile took more of the stain, or less of it."""
    usual = stains.stain

    def stain(rng: np.random.Generator, scale: float = 1.0) -> stains.Stain:
        style = usual(rng, scale)
        return dataclasses.replace(
            style,
            haemoglobin=style.haemoglobin * strength,
            platelet=style.platelet * strength,
            nucleus=style.nucleus * strength,
        )

    with mock.patch.object(stains, "stain", stain):
        yield


def judge_window(
    live: Mapping[Statistic, Sample], reference: Mapping[Statistic, Sample]
) -> Verdict:
    """What `serving drift` says of a window."""
    verdict = Verdict(version=1)
    judge_samples(verdict, live, reference)
    return verdict


def main(settings: Settings) -> None:
    """Measure, and write what was found."""
    network = load_onnx(settings.network)
    real = measure_population(
        network, [path.read_bytes() for path in sorted(settings.photos.glob("*.jpg"))]
    )
    usual = measure_population(network, encode_photos(render_photos(settings.rendered, seed=0)))
    found = {
        "machine": machine.describe_machine(),
        "rate": judgement.RATE,
        "least": judgement.LEAST,
        "seen": judgement.SEEN,
        "unchanged": [
            {
                "photos": name,
                "reference": reference,
                "windows": settings.windows,
                "alarms": measure_unchanged(population, reference, settings.windows),
                "alarms_if_scores_were_independent": measure_unchanged(
                    population, reference, settings.windows, independent=True
                ),
            }
            for name, population in (("real", real), ("rendered", usual))
            for reference in REFERENCES
        ],
        "one_reference": _measure_one_reference(real, settings.windows),
        "halves": measure_halves(real, settings.windows),
        "changed": _measure_changes(network, usual, settings),
    }
    settings.output.write_text(json.dumps(found, indent=2) + "\n")


def measure_unchanged(
    population: Population, reference: int, windows: int, independent: bool = False
) -> int:
    """How many windows of unchanged photos alarm, of sizes from the least to 5,000 images.

    Args:
        population: what both are drawn from.
        reference: images in the reference, drawn anew for each window.
        windows: how many.
        independent: whether each score counts by itself, whatever the others of its photo are.
    """
    rng = np.random.default_rng(reference)
    needed = count_needed(reference, population.statistics) or 0
    pairs = (
        (population.draw(rng, images), population.draw(rng, reference))
        for images in np.geomspace(needed, 5000, windows).astype(int)
    )
    return _count_alarms(map(_count_scores, each) if independent else each for each in pairs)


def _count_scores(samples: Mapping[Statistic, Sample]) -> dict[Statistic, Sample]:
    """The same, each score a value by itself."""
    return {
        statistic: each._replace(size=each.values.total) if statistic.name == SCORE else each
        for statistic, each in samples.items()
    }


def _count_alarms(pairs: Iterable[Iterable[Mapping[Statistic, Sample]]]) -> int:
    """Of windows, each beside its reference."""
    return sum(judge_window(*pair).word == MOVED for pair in pairs)


def _measure_one_reference(
    population: Population, windows: int, references: int = 50
) -> dict[str, Any]:
    """A version has one reference: how its windows share its luck."""
    rng = np.random.default_rng(0)
    alarms = []
    for reference in (population.draw(rng, 58) for _ in range(references)):
        pairs = [(population.draw(rng, 500), reference) for _ in range(windows // references)]
        alarms.append(_count_alarms(pairs))
    return {
        "reference": 58,
        "images": 500,
        "references": references,
        "windows_each": windows // references,
        "alarms_of_the_worst": max(alarms),
        "references_with_alarms": sum(each > 0 for each in alarms),
    }


def measure_halves(population: Population, splits: int) -> dict[str, Any]:
    """One half of the photos as the reference, the other as the window."""
    rng = np.random.default_rng(0)
    half = population.size // 2
    orders = [rng.permutation(population.size) for _ in range(splits)]
    pairs = [(population.take(o[half:]), population.take(o[:half])) for o in orders]
    return {"photos": population.size, "splits": splits, "alarms": _count_alarms(pairs)}


def _measure_changes(
    network: OnnxNetwork, usual: Population, settings: Settings
) -> list[dict[str, Any]]:
    """With how many images each change is told, beside a reference of each size."""
    return [
        {"change": name, "reference": reference, **_measure_change(usual, changed, reference, 200)}
        for name, files in _render_changes(settings.rendered)
        for changed in [measure_population(network, files)]
        for reference in REFERENCES
    ]


def _render_changes(count: int) -> Iterator[tuple[str, list[bytes]]]:
    """Other cells than the usual ones, in other photos or by another laboratory's stain."""
    for strength in (0.6, 1.6):
        with stained(strength):
            yield f"stain {strength} times as strong", encode_photos(render_photos(count, seed=1))
    photos = render_photos(count, seed=1)
    for sigma in (1, 2):
        blur = partial(cv2.GaussianBlur, ksize=(0, 0), sigmaX=sigma)
        yield f"blurred, sigma {sigma} pixels", encode_photos(photos, blur)
    for exposure in (0.95, 0.9, 0.8):
        expose = partial(cv2.convertScaleAbs, alpha=exposure)
        yield f"exposure {exposure}", encode_photos(photos, expose)
    yield "JPEG quality 40", encode_photos(photos, quality=40)
    yield "half the size", encode_photos(photos, partial(cv2.resize, dsize=(160, 120)))


def _measure_change(
    usual: Population, changed: Population, reference: int, windows: int
) -> dict[str, Any]:
    """The least of some numbers of images with which 99 of 100 windows alarm, None if none is."""
    rng = np.random.default_rng(0)
    needed = count_needed(reference, usual.statistics) or 0
    for images in (needed, *(n for n in (100, 200, 400, 1000, 4000) if n > needed)):
        pairs = [(changed.draw(rng, images), usual.draw(rng, reference)) for _ in range(windows)]
        if _count_alarms(pairs) >= 0.99 * windows:
            first = judge_window(*pairs[0]).moved[0]
            return {
                "images": images,
                "needed": needed,
                "moved_most": str(first.statistic),
                "distance": round(first.distance, 2),
            }
    return {"images": None, "needed": needed}


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
