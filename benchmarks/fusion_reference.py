"""Is the fusion of model_repository the paper's? 10,000 random cases beside ensemble-boxes.

That package brings numba, so it is no dependency: it is installed beside, for this alone, in an
environment that has nothing else of this project.

    python3 -m venv runs/reference
    runs/reference/bin/pip install ensemble-boxes==1.0.9 'numpy<2' opencv-python-headless
    runs/reference/bin/python benchmarks/fusion_reference.py \
        --output benchmarks/results/fusion_reference.json
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "model_repository" / "postprocess" / "1"))

CASES = 10_000
GOLDEN = 6  # of them, the first, are what the tests are given
CLASSES = 3


def _make_case(seed: int) -> dict[str, Any]:
    """Objects that each of one to five networks sees a little differently, or not, and noise."""
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 0.8, (random.integers(0, 15), 2))
    objects_xyxy = np.hstack([corners, corners + random.uniform(0.02, 0.2, corners.shape)])
    kinds = random.integers(0, CLASSES, len(objects_xyxy))
    members = []
    for _ in range(random.integers(1, 6)):
        seen = random.random(len(objects_xyxy)) < 0.8
        seen = np.repeat(np.flatnonzero(seen), random.integers(1, 3))
        moved = objects_xyxy[seen] + random.normal(0, 0.01, (len(seen), 4))
        boxes_xyxy = np.clip(moved, 0, 1).astype(np.float32)
        sound = (boxes_xyxy[:, :2] < boxes_xyxy[:, 2:]).all(axis=1)
        scores = random.uniform(0.01, 1, len(seen)).astype(np.float32)
        members.append((boxes_xyxy[sound], scores[sound], kinds[seen][sound]))
    return {"members": members, "iou": random.choice([0.4, 0.55, 0.7])}


def _find_difference(case: dict[str, Any], expected: list[np.ndarray]) -> float:
    """The largest of boxes, scores and classes; infinite where there are more or fewer boxes."""
    from fusion import fuse
    from postprocessing import Detections

    found = fuse([Detections(*member) for member in case["members"]], case["iou"])
    if len(found.scores) != len(expected[1]):
        return np.inf
    pairs = zip(found, expected, strict=True)
    return max((float(np.abs(one - other).max(initial=0)) for one, other in pairs), default=0.0)


def _fuse_by_reference(case: dict[str, Any]) -> list[np.ndarray]:
    """Boxes, scores and classes, best first."""
    import ensemble_boxes

    members = [[part.tolist() for part in member] for member in case["members"]]
    lists = [list(parts) for parts in zip(*members, strict=True)]
    return list(ensemble_boxes.weighted_boxes_fusion(*lists, iou_thr=case["iou"]))


def main() -> None:
    """Compare, print, and write the figures and the tests' golden cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file to write the figures to")
    parser.add_argument("--golden", type=Path, help="JSON file to write cases for the tests to")
    options = parser.parse_args()
    cases = [_make_case(seed) for seed in range(CASES)]
    expected = [_fuse_by_reference(case) for case in cases]
    differences = [_find_difference(*pair) for pair in zip(cases, expected, strict=True)]
    figures = {
        "reference": "ensemble-boxes 1.0.9",
        "cases": CASES,
        "boxes": sum(len(scores) for case in cases for _, scores, _ in case["members"]),
        "objects": sum(len(found[1]) for found in expected),
        "largest_difference": max(differences),
        "cases_that_differ_by_more_than_1e-5": sum(each > 1e-5 for each in differences),
    }
    print(json.dumps(figures, indent=1))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1) + "\n")
    if options.golden:
        pairs = list(zip(cases, expected, strict=True))[:GOLDEN]
        golden = [case | {"expected": found} for case, found in pairs]
        options.golden.write_text(json.dumps(golden, default=_round_numbers) + "\n")


def _round_numbers(array: np.ndarray) -> Any:
    """An array for JSON."""
    return np.round(array.astype(float), 7).tolist()


if __name__ == "__main__":
    main()
