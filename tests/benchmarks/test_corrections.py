"""What the person has to do, in the benchmark of corrections."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import corrections
from training.data.annotations import Annotation
from training.labelling.drafts import Draft


def annotate(*boxes: tuple[str, list[float]]) -> Annotation:
    labels = tuple(label for label, _ in boxes)
    corners = np.array([box for _, box in boxes], np.float32).reshape(-1, 4)
    no = np.zeros(len(boxes), bool)
    return Annotation("a", Path("a.jpg"), 100, 100, corners, labels, no, no)


def test_each_box_stays_is_moved_goes_or_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = annotate(("RBC", [0, 0, 20, 20]), ("RBC", [40, 0, 60, 20]), ("WBC", [0, 50, 40, 90]))
    drawn = annotate(
        ("RBC", [0, 0, 20, 20]),
        ("RBC", [1, 0, 21, 20]),  # the same cell once more
        ("RBC", [44, 0, 64, 20]),  # IoU 16/24
        ("RBC", [0, 50, 40, 90]),  # of another class
    )
    draft = Draft(drawn, np.ones(4, np.float32), b"", np.empty(0))
    nothing = Draft(annotate(), np.ones(0, np.float32), b"", np.empty(0))
    monkeypatch.setattr(corrections, "load_model", lambda _: None)
    monkeypatch.setattr(corrections, "draft_photos", lambda *_: [draft, nothing])
    work = corrections._count_work(Path("run"), [truth, truth])
    assert work == {"stay": 1, "moved": 1, "removed": 2, "drawn": 1 + 3}
