"""Finds photos that look alike though their files differ: a video's frames, a picture saved anew.

What a photo looks like is told by its slopes: shrunk to 17x17 grey fields, the differences of
neighbours to the right and below. Light and contrast do not change their directions, JPEG and
another size hardly. Two photos are alike where the slopes correlate by `ALIKE` or more. Measured:

    0.99    the same photo at half the size, at JPEG quality 60, or brighter (the worst)
    0.82    cut by 2% at two edges (the worst of 165; the median is 0.91)
    0.92    the least of the 8 pairs among the 200 raccoons that are one picture
    0.60    the most of all other pairs of these, 0.37 of the 292 blood smears' other 42,485

Where copies of some photos must not pass (frozen.py), each of these is known as it is and cut by
5% at two edges, five ways, and `SAME` is enough:

    0.74    any of the 492 photos cut by up to 5% at each edge, halved, at quality 50 (the worst)
    0.62    the most of any two that are not one scene
"""

import cv2
import numpy as np

ALIKE = 0.85
SAME = 0.7  # with one of `look_at_cuts`
CUT, CUTS = 0.05, 6  # of a side; how many looks `look_at_cuts` gives
FLAT = 0.5  # grey levels between neighbours, root mean square: nothing to know a picture again by
_FIELDS = 17
_ROWS = 256  # photos compared at once with all others


def look(picture: np.ndarray) -> bytes:
    """The slopes of a picture, uint8 RGB [H, W, 3]: 512 signed bytes, none where it is flat."""
    side = 4 * _FIELDS  # in two steps, for whole grey levels are too coarse for a soft picture
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA).mean(axis=2)
    fields = small.reshape(_FIELDS, 4, _FIELDS, 4).mean(axis=(1, 3))
    right, down = np.diff(fields, axis=1)[:-1], np.diff(fields, axis=0)[:, :-1]
    slopes = np.concatenate([right.ravel(), down.ravel()])
    if np.sqrt(np.mean(slopes**2)) < FLAT:
        return b""
    return np.rint(slopes * (127 / np.abs(slopes).max())).astype(np.int8).tobytes()


def look_at_cuts(picture: np.ndarray) -> list[bytes]:
    """The looks of a picture, uint8 RGB [H, W, 3], as it is and cut at its edges: CUTS of them."""
    height, width = picture.shape[:2]
    down, right = round(CUT * height), round(CUT * width)
    corners = [(y, x) for y in (0, down) for x in (0, right)]
    starts = [*corners, (down // 2, right // 2)]
    cuts = [picture[y : y + height - down, x : x + width - right] for y, x in starts]
    return [look(each) for each in (picture, *cuts)]


def most_alike(looks: list[bytes], others: list[bytes], least: float = ALIKE) -> list[int | None]:
    """For each look the place among the others of the one most alike; None where none is alike.

    least: the correlation from which two are.
    """
    rows, columns = (
        np.array(list(map(unit_slopes, looks))),
        np.array(list(map(unit_slopes, others))),
    )
    found: list[int | None] = []
    for start in range(0, len(rows) if len(columns) else 0, _ROWS):
        alike = rows[start : start + _ROWS] @ columns.T
        best = alike.argmax(axis=1)
        values = alike[np.arange(len(best)), best]
        found += [
            int(place) if value >= least else None
            for place, value in zip(best, values, strict=True)
        ]
    return found or [None] * len(looks)


def unit_slopes(look: bytes) -> np.ndarray:
    """A vector of length 1 whose product with another is the correlation; zeros if flat."""
    slopes = np.frombuffer(look or bytes(2 * (_FIELDS - 1) ** 2), np.int8).astype(np.float32)
    slopes = slopes - slopes.mean()
    return slopes / max(float(np.linalg.norm(slopes)), 1e-6)
