"""What a model finds in a folder of photos: annotations to correct instead of to draw."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.data import decoding
from training.data.annotations import Annotation
from training.data.files import IMAGE_SUFFIXES, UNREAD_SUFFIXES, files_below
from training.data.problems import BadImageError
from training.errors import TrainingError
from training.export.reference import detect_file
from training.labelling.model import measure_features
from training.network.onnx_network import OnnxNetwork


@dataclass(frozen=True)
class Draft:
    """A photo with what was found in it, best score first.

    annotation: the boxes as if somebody had drawn them.
    scores: float32 [N], 0 to 1.
    look: of the photo, as `resemblance.look` tells it.
    features: float32 [D], as `measure_features` gives them; [0] where nobody asked.
    """

    annotation: Annotation
    scores: np.ndarray
    look: bytes
    features: np.ndarray

    def above(self, threshold: float) -> "Draft":
        """The same without what scores no more than a threshold."""
        rows = int((self.scores > threshold).sum())
        kept = {
            name: getattr(self.annotation, name)[:rows]
            for name in ("boxes_xyxy", "labels", "difficult", "truncated")
        }
        return replace(self, annotation=replace(self.annotation, **kept), scores=self.scores[:rows])


def find_photos(folder: Path) -> list[Path]:
    """The photos in a folder and its folders, in a fixed order; those of unread formats are named.

    Raises:
        TrainingError: there are none.
    """
    if not folder.is_dir():
        raise TrainingError(f"{folder}: no such folder")
    for path in files_below(folder, UNREAD_SUFFIXES):
        print(f"left out: {path}: not read; save it as JPEG or PNG", file=sys.stderr)
    photos = files_below(folder, IMAGE_SUFFIXES)
    if not photos:
        raise TrainingError(f"{folder}: no photos in there; read are {', '.join(IMAGE_SUFFIXES)}")
    return photos


def draft_photos(
    network: OnnxNetwork, photos: Sequence[Path], score_threshold: float, features: bool = False
) -> list[Draft]:
    """What the network finds in each photo; those that do not decode are named and left out.

    Args:
        network: of `load_model`.
        photos: their files.
        score_threshold: 0 to 1, what is found scores above it.
        features: whether to measure them, which runs the network once more.

    Raises:
        TrainingError: not one decodes.
    """
    drafts = []
    for photo in tqdm(photos, desc="detecting", unit="photo", leave=False, disable=None):
        try:
            drafts.append(_draft_photo(network, photo, score_threshold, features))
        except BadImageError as error:
            tqdm.write(f"left out: {photo}: {error}", file=sys.stderr)
    if not drafts:
        raise TrainingError(f"none of the {len(photos)} photos decodes, first {photos[0]}")
    return drafts


def _draft_photo(
    network: OnnxNetwork, photo: Path, score_threshold: float, features: bool
) -> Draft:
    encoded, _, info = decoding.read_image(photo)
    seen, _, found = detect_file(network, encoded, score_threshold)
    labels = tuple(network.labels[k] for k in found.classes)
    unset = np.zeros(len(labels), bool)
    annotation = Annotation(
        photo.stem, photo, info.width, info.height, found.boxes_xyxy, labels, unset, unset
    )
    measured = measure_features(network, seen)[0] if features else np.zeros(0, np.float32)
    return Draft(annotation, found.scores, info.look, measured)


def count_labels(drafts: Iterable[Draft], labels: Sequence[str]) -> np.ndarray:
    """How many boxes of each label there are, int [C]."""
    found = [labels.index(label) for draft in drafts for label in draft.annotation.labels]
    return np.bincount(found, minlength=len(labels))
