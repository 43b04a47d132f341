"""`training vet`: whether new annotations can be believed, beside those that are trusted.

    copies          photos that are there twice, look alike, or were trained on
    disagreements   with what the live network detects, more than in trusted photos

Photos that the network was trained on are left out of the trusted ones, for it agrees with those
too well. What it does not find speaks against nobody, only what it finds otherwise than it is
annotated does. Photos in which it finds next to nothing it cannot judge: a person has to.
"""

import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro
from tqdm import tqdm

from training.data import decoding, resemblance
from training.data.annotations import Annotation
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.data.records import photo_id
from training.errors import TrainingError
from training.evaluation import outcomes, pictures, score
from training.evaluation.score import Detected, Truth
from training.export.reference import SCORE_THRESHOLD, detect_file
from training.network.onnx_network import OnnxNetwork, load_onnx
from training.vetting import disagreement
from training.vetting.disagreement import ALPHA, RATIOS, Ratio

BELIEVED, REFUSED, UNDECIDED = 0, 3, 4
FEW = 20  # photos, on either side, that tell nothing
BLIND = 0.5  # detections for each annotated object, below which the network knows no such photos
DRAWN, SIDE = 10, (300, 900)  # photos, and the pixels of their longer side
_FOLDERS = tyro.conf.arg(metavar="FOLDER...", help_behavior_hint="")


@dataclass(frozen=True)
class VetSettings(FolderSettings):
    """Judge new annotations by the live network, beside trusted ones.

    Exit code: 0 nothing speaks against them, 3 refused, 4 too few photos to tell, 1 an error.
    """

    artifact: Path
    """Folder of the artifact that is live, or its model.onnx."""
    trusted: Annotated[tuple[Path, ...], _FOLDERS]
    """Annotated folders to compare with, best of photos that the network was not trained on."""
    more: float = 0.1
    """By how much a share of disagreements may be higher than in the trusted photos, 0 to 1."""
    copies: float = 0.1
    """Share of the new photos that may be copies, 0 to 1."""
    pictures: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder to make, for pictures of the new photos with most disagreements."""


@dataclass(frozen=True)
class Batch:
    """Annotated photos, what was detected in them and how they look, each in the same order.

    twins: how many more were left out, since they are copies of others or of frozen ones.
    """

    annotations: tuple[Annotation, ...]
    truth: list[Truth]
    detected: list[Detected]
    looks: list[bytes]
    twins: int

    @property
    def photos(self) -> int:
        """With the twins."""
        return len(self.annotations) + self.twins


def vet_photos(settings: VetSettings) -> int:
    """Print what was found. Returns the exit code, BELIEVED, REFUSED or UNDECIDED.

    Raises:
        TrainingError: the folders cannot be read, or hold classes that the network does not know.
    """
    if settings.pictures and settings.pictures.exists():
        raise TrainingError(f"{settings.pictures} exists already: choose another --pictures")
    path = settings.artifact
    network = load_onnx(path / "model.onnx" if path.is_dir() else path)
    new = read_batch(settings, network, leave_out=frozenset())
    copies = _count_copies(new, network) + new.twins
    print(f"new: {new.photos} photos, {copies} of them copies")
    if copies > settings.copies * new.photos:
        print(
            f"refused: {copies} of {new.photos} photos look like others, were trained on or frozen;"
            f" {settings.copies:.0%} allowed (--copies)"
        )
        return REFUSED
    trusted = read_batch(
        replace(settings, folders=settings.trusted, frozen=()), network, network.trained_on.photos
    )
    print(f"trusted: {len(trusted.truth)} photos, without those that the network was trained on")
    if min(len(new.truth), len(trusted.truth)) < FEW:
        print(f"too few photos to tell: {FEW} needed on each side")
        return UNDECIDED
    found, annotated = (sum(len(x.classes) for x in each) for each in (new.detected, new.truth))
    if found < BLIND * annotated:
        print(
            f"too few detections to tell: {found} where {annotated} objects are annotated, the "
            "network does not know such photos; look at them"
        )
        return UNDECIDED
    counts = count_batch(new, network)
    ratios = disagreement.compare_disagreements(
        counts, count_batch(trusted, network), network.labels
    )
    print("\n".join(_describe_table(ratios)))
    if settings.pictures:
        _draw_worst(new, counts, network, settings.pictures)
    return _decide(ratios, settings.more)


def read_batch(settings: FolderSettings, network: OnnxNetwork, leave_out: frozenset[str]) -> Batch:
    """All splits of the folders, without the photos to be left out."""
    names = {field.name for field in fields(FolderSettings)}
    folders = Folders(FolderSettings(**{name: getattr(settings, name) for name in names}))
    folders.check_files()
    print("\n".join(folders.notes()), file=sys.stderr)
    splits = folders.splits()
    if unknown := [x for x in folders.labels(splits) if x not in network.labels]:
        raise TrainingError(
            f"{folders}: {', '.join(unknown)} is none of the network's classes "
            f"{', '.join(network.labels)}: --rename gives classes other names"
        )
    datasets = [folders.read(split, network.labels) for split in splits]
    every = {a.image_path: a for dataset in datasets for a in dataset.annotations}
    kept = tuple(a for path, a in every.items() if not leave_out or photo_id(path) not in leave_out)
    twins = {
        (problem.file, problem.message)
        for dataset in datasets
        for problem in dataset.problems
        if problem.kind in ("duplicate image", "leakage", "frozen") and problem.fatal_for == "image"
    }
    return _detect_photos(kept, network, len(twins))


def _detect_photos(annotations: tuple[Annotation, ...], network: OnnxNetwork, twins: int) -> Batch:
    truth, detected, looks = [], [], []
    for a in tqdm(annotations, desc="detecting", unit="image", leave=False, disable=None):
        encoded, _, info = decoding.read_image(a.image_path)
        classes = np.array([network.labels.index(label) for label in a.labels], int)
        truth.append(
            Truth(a.image_id, a.width, a.height, a.boxes_xyxy, classes, a.difficult.copy())
        )
        found = detect_file(network, encoded, SCORE_THRESHOLD)[2]
        detected.append(
            Detected(a.image_id, found.boxes_xyxy, found.scores, found.classes.astype(int))
        )
        looks.append(info.look)
    return Batch(annotations, truth, detected, looks, twins)


def _count_copies(batch: Batch, network: OnnxNetwork) -> int:
    """Photos that look like an earlier one of the batch, or that the network was trained on."""
    if not batch.looks:
        return 0
    looks = np.array([resemblance.unit_slopes(look) for look in batch.looks])
    earlier = np.tril(looks @ looks.T, k=-1) >= resemblance.ALIKE
    known = [photo_id(a.image_path) in network.trained_on.photos for a in batch.annotations]
    return int((earlier.any(axis=1) | np.array(known, bool)).sum())


def count_batch(batch: Batch, network: OnnxNetwork) -> np.ndarray:
    """As `disagreement.count_disagreements`, of what the service would show."""
    metrics = score.score_detections(batch.truth, batch.detected, network.labels)
    return disagreement.count_disagreements(
        batch.truth, batch.detected, metrics, len(network.labels), SCORE_THRESHOLD
    )


def _describe_table(ratios: list[Ratio]) -> list[str]:
    """A line a class: each ratio in the new photos, and in the trusted ones."""
    width = max(len(ratio.label) for ratio in ratios)
    lines = [f"{'':{width}}  " + "".join(f"{name:>24}" for name in RATIOS) + "   (trusted)"]
    for at in range(0, len(ratios), len(RATIOS)):
        cells = [
            f"{_percent(ratio.new)} of {ratio.new[1]} ({_percent(ratio.trusted)})"
            for ratio in ratios[at : at + len(RATIOS)]
        ]
        lines.append(f"{ratios[at].label:{width}}  " + "".join(f"{cell:>24}" for cell in cells))
    return lines


def _percent(share: tuple[int, int]) -> str:
    return f"{share[0] / share[1]:.1%}" if share[1] else "-"


def find_systematic(ratios: list[Ratio], more: float) -> list[Ratio]:
    """Those that are higher in the new photos by more than is allowed, and not by chance."""
    return [ratio for ratio in ratios if ratio.increase > more and ratio.p <= ALPHA]


def _decide(ratios: list[Ratio], more: float) -> int:
    found = find_systematic(ratios, more)
    for ratio in found:
        print(
            f"refused: {ratio.label}, {ratio.name}: {_percent(ratio.new)}, in the trusted photos "
            f"{_percent(ratio.trusted)}; {more:.0%} more allowed (--more); permutation test over "
            f"photos, p = {ratio.p:.4f}"
        )
    if found:
        print("where they are right, and the network does not know such photos: a higher --more")
    else:
        print("nothing speaks against these photos")
    return REFUSED if found else BELIEVED


def _draw_worst(batch: Batch, counts: np.ndarray, network: OnnxNetwork, folder: Path) -> None:
    """Of the photos with most disagreements what is annotated, left, and what is detected."""
    folder.mkdir(parents=True)
    metrics = score.score_detections(batch.truth, batch.detected, network.labels)
    worst = np.argsort(-counts[..., 0].sum(axis=(1, 2)), kind="stable")[:DRAWN]
    for place, row in enumerate(worst, start=1):
        truth, detected = batch.truth[row], batch.detected[row]
        image = decoding.read_image(batch.annotations[row].image_path)[1]
        found = metrics.matches[truth.image_id][0]
        known = outcomes.outcome(truth, detected, found, SCORE_THRESHOLD)
        panels = pictures.draw_panels(image, truth, detected, known, network.labels, SIDE)
        cv2.imwrite(str(folder / f"{place:02}-{truth.image_id}.jpg"), np.hstack(panels)[:, :, ::-1])
    print(f"pictures: {folder}")
