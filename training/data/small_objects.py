"""Whether objects are too small for a network's input, and what helps."""

import numpy as np

SMALL = 16  # pixels of the network's input: two cells of its finest map


def advise_small(shares: np.ndarray, side: int) -> str:
    """A sentence; empty where the median object is large enough.

    Args:
        shares: each object's width and height [N, 2], of the input's, 0 to 1.
        side: of the input, pixels.
    """
    median = np.median(side * np.sqrt(shares.prod(axis=1))) if len(shares) else SMALL
    return (
        f"The median object is {median:.0f} pixels at an input of {side}x{side}: train in tiles "
        "(`python -m training run PHOTOS --tile 640`) and serve in the same (`python -m client "
        "detect PHOTO --tile 640`, docs/large-images.md), or train with a larger --input-size."
        if median < SMALL
        else ""
    )
