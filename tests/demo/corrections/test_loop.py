"""From corrections on the page to the records of the next training."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.corrections.folder import Corrections
from training.data import records, records_writer
from training.render import smears

LABELS = ("RBC", "WBC", "Platelets")


def photo(seed: int) -> bytes:
    """A small JPEG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


@pytest.fixture
def corrected(tmp_path: Path) -> Corrections:
    kept = Corrections(tmp_path / "corrections", LABELS)
    for seed in range(5):
        kept.save(photo(seed), [{"label": "WBC", "x1": 16, "y1": 12, "x2": 48, "y2": 36}])
    kept.save(photo(5), [])
    return kept


def write(folders: tuple[Path, ...], output: Path, val: float) -> dict[str, records.Manifest]:
    settings = records_writer.RecordsSettings(folders, output, labels=LABELS, val=val)
    assert records_writer.write_records(settings) == 0
    return {path.stem: records.load_manifest(output, path.stem) for path in output.glob("*.json")}


def counts(manifests: dict[str, records.Manifest]) -> dict[str, int]:
    """Images of each split."""
    return {split: manifest.count for split, manifest in manifests.items()}


def test_corrections_become_records(corrected: Corrections, tmp_path: Path) -> None:
    manifests = write((Path(corrected.inbox.address),), tmp_path / "records", val=0.2)
    assert counts(manifests) == {"train": 5, "val": 1}
    for manifest in manifests.values():
        for example in records.dataset(manifest):
            boxes_xyxy = example["boxes_xyxy"].numpy().tolist()
            assert boxes_xyxy in ([], [[0.25, 0.25, 0.75, 0.75]])
            assert example["classes"].numpy().tolist() == [1] * len(boxes_xyxy)


def test_they_join_the_photos_of_the_last_training_and_win(
    corrected: Corrections, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Corrections named first count instead of older annotations, and never reach what val has."""
    voc = tmp_path / "voc"
    assert smears.render_smears(smears.RenderSettings(voc, count=6, width=160, height=120)) == 0
    for split in ("train", "val"):
        known = (voc / "ImageSets/Main" / f"{split}.txt").read_text().split()[0]
        corrected.save((voc / "JPEGImages" / f"{known}.jpg").read_bytes(), [])
    manifests = write((Path(corrected.inbox.address), voc), tmp_path / "records", val=0)
    assert counts(manifests) == {"train": 6 + 5, "val": 1}
    assert sum(not len(example["classes"]) for example in records.dataset(manifests["train"])) == 2
    printed = capsys.readouterr().out
    assert "1 x leakage" in printed
    assert "1 x duplicate image" in printed
