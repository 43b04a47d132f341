"""`training select`: of a folder of unlabelled photos those that are worth labelling first.

    OUTPUT/order.csv           the order: each photo's place, doubts by class and distance
    OUTPUT/contact-sheet.jpg   the first photos
    OUTPUT/...                 the photos, numbered, with a model's boxes, as `prelabel` writes them

What is labelled already is left out: photos that the model was trained on, and those that look like
one of --labelled. What they hold that is new is measured against those as well.
"""

import csv
import sys
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from training.data import resemblance
from training.data.records import photo_id
from training.errors import TrainingError
from training.labelling import order
from training.labelling.contact_sheet import write_sheet
from training.labelling.draft_folder import make_folder, name_photos, write_drafts
from training.labelling.drafts import Draft, count_labels, draft_photos, find_photos
from training.labelling.model import load_model
from training.labelling.order import Choice
from training.labelling.prelabel import PrelabelSettings, check_settings, describe_folder
from training.network.onnx_network import OnnxNetwork


@dataclass(frozen=True)
class SelectSettings(PrelabelSettings):
    """Choose the photos that are worth labelling first, and write them with a model's boxes.

    Those come first that the model doubts most and that are unlike what is labelled.
    """

    _: KW_ONLY
    count: int
    """How many photos to choose."""
    labelled: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Folder of the photos that are labelled already, in any format: what looks like one of them is
    left out. Those that the model was trained on are, anyway."""


@dataclass(frozen=True)
class Ranked:
    """The photos of an order, the first to label first; rows of the three belong together.

    doubts: float [N, C], of each photo and class, weighted.
    """

    drafts: list[Draft]
    doubts: np.ndarray
    choices: list[Choice]


def select_photos(settings: SelectSettings) -> int:
    """Write the folder and say what is in it.

    Raises:
        TrainingError: no model, too few photos, or a folder that is there.
    """
    check_settings(settings)
    photos = find_photos(settings.photos)
    _check_count(settings.count, len(photos), "in there")
    network = load_model(settings.model)
    pool = draft_photos(network, photos, order.LEAST_SCORE, features=True)
    labelled = _draft_labelled(settings, network)
    known = _find_known(pool, labelled, network)
    new = [draft for draft, is_known in zip(pool, known, strict=True) if not is_known]
    print(f"{len(photos)} photos, {sum(known)} of them labelled already", file=sys.stderr)
    _check_count(settings.count, len(new), "not labelled yet")
    old = labelled + [draft for draft, is_known in zip(pool, known, strict=True) if is_known]
    ranked = _rank_photos(new, old, network.labels, settings)
    _write_folder(ranked, settings, network.labels)
    return 0


def _check_count(count: int, there: int, which: str) -> None:
    if not there:
        raise TrainingError("all of these photos are labelled already: nothing to choose from")
    if not 1 <= count <= there:
        raise TrainingError(f"--count must be 1 to {there}, the photos {which}, got {count}")


def _draft_labelled(settings: SelectSettings, network: OnnxNetwork) -> list[Draft]:
    if not settings.labelled:
        return []
    return draft_photos(network, find_photos(settings.labelled), order.LEAST_SCORE, features=True)


def _find_known(pool: list[Draft], labelled: list[Draft], network: OnnxNetwork) -> list[bool]:
    """Whether each photo is one that was trained on, or looks like a labelled one."""
    twins = resemblance.most_alike([each.look for each in pool], [each.look for each in labelled])
    trained_on = network.trained_on.photos
    return [
        twin is not None or photo_id(draft.annotation.image_path) in trained_on
        for draft, twin in zip(pool, twins, strict=True)
    ]


def _rank_photos(
    new: list[Draft], old: list[Draft], labels: Sequence[str], settings: SelectSettings
) -> Ranked:
    """The first `settings.count` of the new photos in their order, beside those labelled."""
    shown = (draft.above(settings.score_threshold) for draft in (*new, *old))
    weights = order.weigh_classes(count_labels(shown, labels))
    doubts = order.measure_uncertainty(
        [order.measure_doubts(draft.scores) for draft in new],
        [np.array([labels.index(x) for x in draft.annotation.labels], int) for draft in new],
        weights,
    )
    features = np.array([draft.features for draft in new])
    choices = order.order_photos(
        doubts.sum(axis=1),
        features,
        [draft.look for draft in new],
        np.array([draft.features for draft in old]).reshape(-1, features.shape[1]),
        settings.count,
    )
    places = [choice.place for choice in choices]
    return Ranked([new[place] for place in places], doubts[places], choices)


def _write_folder(ranked: Ranked, settings: SelectSettings, labels: tuple[str, ...]) -> None:
    shown = [draft.above(settings.score_threshold) for draft in ranked.drafts]
    photos = [draft.annotation.image_path for draft in shown]
    digits = len(str(len(shown)))
    flat = name_photos(photos, settings.photos)
    names = [f"{number:0{digits}}-{name}" for number, name in enumerate(flat, 1)]
    with make_folder(settings.output) as folder:
        write_drafts(dict(zip(names, shown, strict=True)), labels, folder, settings.format)
        _write_order(folder / "order.csv", names, ranked, labels)
        write_sheet(shown, labels, folder / "contact-sheet.jpg")
    print(describe_folder(settings, shown, labels))


def _write_order(path: Path, names: list[str], ranked: Ranked, labels: tuple[str, ...]) -> None:
    """A row a photo; `doubts` of a class are weighted, their sum times `distance` is the worth."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["name", "photo", "worth", "distance", *(f"doubts {x}" for x in labels)])
        for name, draft, row, choice in zip(
            names, ranked.drafts, ranked.doubts, ranked.choices, strict=True
        ):
            numbers = [row.sum() * choice.distance, choice.distance, *row]
            photo = draft.annotation.image_path
            table.writerow([name, photo, *(f"{number:.3f}" for number in numbers)])
