"""A picture of the first photos of an order, small, numbered, with the boxes that were drawn."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from training.data import decoding
from training.evaluation import pictures
from training.evaluation.score import Detected
from training.labelling.drafts import Draft

SHOWN, COLUMNS = 24, 4
_SIDE, _GAP = 320, 8  # pixels of a photo's longer side, and between two


def write_sheet(drafts: Sequence[Draft], labels: Sequence[str], path: Path) -> None:
    """Write the first photos as a JPEG."""
    cells = [_draw_cell(str(n), draft, labels) for n, draft in enumerate(drafts[:SHOWN], 1)]
    rows = [_join_row(cells[at : at + COLUMNS]) for at in range(0, len(cells), COLUMNS)]
    Image.fromarray(np.vstack(rows)).save(path, quality=88)


def _join_row(cells: list[np.ndarray]) -> np.ndarray:
    """Side by side on white, each at the top of its place; uint8 RGB [H, W, 3]."""
    row = np.full((max(map(len, cells)) + _GAP, COLUMNS * (_SIDE + _GAP), 3), 255, np.uint8)
    for place, cell in enumerate(cells):
        left = place * (_SIDE + _GAP)
        row[: cell.shape[0], left : left + cell.shape[1]] = cell
    return row


def _draw_cell(number: str, draft: Draft, labels: Sequence[str]) -> np.ndarray:
    """One photo with its boxes and its number, uint8 RGB [H, W, 3]."""
    a = draft.annotation
    image = decoding.read_image(a.image_path)[1]
    classes = np.array([labels.index(label) for label in a.labels], int)
    detected = Detected(a.image_id, a.boxes_xyxy, draft.scores, classes)
    cell = pictures.draw_detections(image, detected, labels, (_SIDE, _SIDE))
    for colour, width in ((0, 4), (255, 2)):  # white on black
        cv2.putText(cell, number, (8, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (colour,) * 3, width)
    return cell
