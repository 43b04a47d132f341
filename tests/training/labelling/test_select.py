"""The command, as it is typed: what it leaves, what it leaves out, what it refuses."""

import csv
import shutil
from pathlib import Path

import cv2
import onnx
import pytest

from tests.conftest import PROJECT
from tests.training.labelling.conftest import NETWORK, write_flat_photo
from training.__main__ import main
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.data.records import photo_id
from training.network.onnx_network import set_metadata


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Four smears, a smaller copy of the second, and a photo of nothing."""
    folder = tmp_path / "pool"
    folder.mkdir()
    for number in (1, 2, 3, 4):
        shutil.copy(PROJECT / "samples" / f"smear-{number}.jpg", folder)
    picture = cv2.imread(str(folder / "smear-2.jpg"))
    cv2.imwrite(str(folder / "small.png"), cv2.resize(picture, None, fx=0.5, fy=0.5))
    write_flat_photo(folder / "nothing.png")
    return folder


def select(pool: Path, output: Path, count: int, *options: str, model: Path = NETWORK) -> int:
    paths = [str(model), str(pool), "--output", str(output)]
    return main(["select", *paths, "--count", str(count), *options])


def read_order(folder: Path) -> list[dict[str, str]]:
    with (folder / "order.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_folder_holds_the_order_the_photos_and_a_sheet(pool: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "chosen"
    assert select(pool, chosen, 6) == 0
    rows = read_order(chosen)
    assert sorted(Path(row["photo"]).name for row in rows) == sorted(x.name for x in pool.iterdir())
    assert [row["name"][:2] for row in rows] == ["1-", "2-", "3-", "4-", "5-", "6-"]
    assert {row["name"] for row in rows} == {x.name for x in (chosen / "JPEGImages").iterdir()}
    read = Folders(FolderSettings((chosen,), val=0)).read("train")
    assert [(each.kind, each.fatal_for) for each in read.problems] == []
    for row in rows:
        doubts = sum(float(row[f"doubts {label}"]) for label in ("RBC", "WBC", "Platelets"))
        assert float(row["worth"]) == pytest.approx(doubts * float(row["distance"]), abs=0.01)
    last = rows[-1]  # the second of two that look alike
    assert (Path(last["photo"]).stem in ("small", "smear-2"), last["distance"]) == (True, "0.000")
    assert cv2.imread(str(chosen / "contact-sheet.jpg")).shape == (2 * 248, 4 * 328, 3)


def test_the_same_command_gives_the_same_order(pool: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        assert select(pool, tmp_path / name, 3, "--format", "yolo") == 0
    one, other = (
        {p.relative_to(x): p.read_bytes() for p in x.rglob("*") if p.is_file()}
        for x in (tmp_path / "one", tmp_path / "other")
    )
    assert one == other


def test_what_is_labelled_is_left_out(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its look, and by its file where the model says that it was trained on it."""
    network = onnx.load(NETWORK)
    known = photo_id(pool / "smear-4.jpg")
    facts = {each.key: each.value for each in network.metadata_props}
    set_metadata(network, facts | {"trained_on": f'{{"complete": true, "photos": ["{known}"]}}'})
    onnx.save(network, tmp_path / "model.onnx")
    labelled = tmp_path / "labelled"
    labelled.mkdir()
    shutil.copy(PROJECT / "samples" / "smear-2.jpg", labelled / "other name.jpg")
    options = ["--labelled", str(labelled)]
    assert select(pool, tmp_path / "new", 3, *options, model=tmp_path / "model.onnx") == 0
    assert "6 photos, 3 of them labelled already" in capsys.readouterr().err
    names = {Path(row["photo"]).name for row in read_order(tmp_path / "new")}
    assert names == {"smear-1.jpg", "smear-3.jpg", "nothing.png"}
    assert select(pool, tmp_path / "more", 4, *options, model=tmp_path / "model.onnx") == 1
    assert "--count must be 1 to 3, the photos not labelled yet" in capsys.readouterr().err


def test_what_cannot_be_is_a_sentence(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for count, found in ((7, "7"), (0, "0")):
        assert select(pool, tmp_path / "new", count) == 1
        assert f"--count must be 1 to 6, the photos in there, got {found}" in (
            capsys.readouterr().err
        )
    assert select(tmp_path / "none", tmp_path / "new", 1) == 1
    assert "none: no such folder" in capsys.readouterr().err
    assert select(pool, pool, 1) == 1
    assert "pool exists already: choose another --output" in capsys.readouterr().err
    assert select(pool, tmp_path / "new", 1, model=pool) == 1
    assert "is no model: expected the folder of an artifact" in capsys.readouterr().err
    assert select(pool, tmp_path / "new", 1, "--labelled", str(tmp_path / "none")) == 1
    assert "none: no such folder" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
