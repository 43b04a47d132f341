"""New annotations of real photos, judged by the shipped network: good ones pass, bad ones don't."""

import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree.ElementTree import Element

import cv2
import onnx
import pytest
from defusedxml import ElementTree

from tests.conftest import PROJECT
from training.__main__ import main
from training.data.records import photo_id
from training.network.onnx_network import set_metadata
from training.vetting.vet import BELIEVED, REFUSED, UNDECIDED

NETWORK = PROJECT / "model_repository" / "ssd" / "2" / "model.onnx"
PHOTOS = 24  # on each side
Change = Callable[[Element], object]


@pytest.fixture
def smears(test_data: Path) -> list[Path]:
    """Annotations of real photos, those of the two halves in turns."""
    return sorted((test_data / "data/bccd/Annotations").glob("*.xml"))[: 6 * PHOTOS : 3]


@pytest.fixture
def trusted(smears: list[Path], tmp_path: Path) -> Path:
    return _write_folder(tmp_path / "trusted", smears[::2])


def _write_folder(folder: Path, smears: list[Path], change: Change = lambda _: None) -> Path:
    for name in ("Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    for smear in smears:
        tree = ElementTree.parse(smear)
        root = tree.getroot()
        assert root is not None
        change(root)
        tree.write(folder / "Annotations" / smear.name)
        photo = smear.parents[1] / "JPEGImages" / f"{smear.stem}.jpg"
        shutil.copy(photo, folder / "JPEGImages")
    return folder


def _write_network(folder: Path, trained_on: str = '{"complete": false, "photos": []}') -> Path:
    """The shipped network, as if it had not been trained on these very photos."""
    model = onnx.load(NETWORK)
    facts = {each.key: each.value for each in model.metadata_props}
    set_metadata(model, facts | {"trained_on": trained_on})
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    return folder


def _vet(new: Path, trusted: Path, *options: str) -> int:
    artifact = new.parent / "artifact"
    artifact = artifact if artifact.exists() else _write_network(artifact)
    return main(["vet", str(new), "--artifact", str(artifact), "--trusted", str(trusted), *options])


def swap_labels(root: Element) -> None:
    """Red cells are called white and white ones red."""
    for name in root.iter("name"):
        name.text = {"RBC": "WBC", "WBC": "RBC"}.get(name.text or "", name.text)


def shift_boxes(root: Element) -> None:
    """By a quarter of their width, to the left."""
    for box in root.iter("bndbox"):
        low, high = (int(box.findtext(name, "")) for name in ("xmin", "xmax"))
        for name, value in (("xmin", low), ("xmax", high)):
            edge = box.find(name)
            assert edge is not None
            edge.text = str(max(value - (high - low) // 4, 1 if name == "xmin" else 3))


def test_good_annotations_pass(
    smears: list[Path], trusted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = _write_folder(tmp_path / "new", smears[1::2])
    assert _vet(new, trusted, "--pictures", str(tmp_path / "pictures")) == BELIEVED
    said = capsys.readouterr().out
    assert f"new: {PHOTOS} photos, 0 of them copies" in said
    assert "nothing speaks against these photos" in said
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert len(pictures) == 10
    assert cv2.imread(str(pictures[0])).shape == (480, 1280, 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (swap_labels, "refused: WBC, other label: 100.0%, in the trusted photos "),
        (shift_boxes, "refused: RBC, loose: 9"),
    ],
)
def test_bad_annotations_are_refused(
    smears: list[Path],
    trusted: Path,
    tmp_path: Path,
    change: Change,
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    new = _write_folder(tmp_path / "new", smears[1::2], change)
    assert _vet(new, trusted) == REFUSED
    assert reason in capsys.readouterr().out


def test_a_hundred_copies_are_refused(
    smears: list[Path], trusted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of them the very file, half saved anew; then photos that the network was trained on."""
    new = _write_folder(tmp_path / "new", smears[1::2])
    first = new / "JPEGImages" / f"{smears[1].stem}.jpg"
    for number in range(100):
        copy = new / "JPEGImages" / f"copy-{number}.jpg"
        if number % 2:
            shutil.copy(first, copy)
        else:
            quality = [cv2.IMWRITE_JPEG_QUALITY, 60 + number // 4]
            cv2.imwrite(str(copy), cv2.imread(str(first)), quality)
        shutil.copy(new / "Annotations" / smears[1].name, new / f"Annotations/copy-{number}.xml")
    assert _vet(new, trusted) == REFUSED
    assert f"refused: 100 of {PHOTOS + 100} photos look like others" in capsys.readouterr().out


def test_copies_of_the_frozen_set_are_refused(
    smears: list[Path], trusted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = _write_folder(tmp_path / "new", smears[1:7:2])
    assert _vet(new, trusted, "--frozen", str(new / "JPEGImages")) == REFUSED
    assert "refused: 3 of 3 photos look like others, were trained" in capsys.readouterr().out


def test_photos_that_it_was_trained_on(
    smears: list[Path], trusted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [photo_id(path) for path in sorted((trusted / "JPEGImages").iterdir())]
    names = ", ".join(f'"{each}"' for each in ids)
    _write_network(tmp_path / "artifact", f'{{"complete": true, "photos": [{names}]}}')
    assert _vet(trusted, trusted) == REFUSED
    new = _write_folder(tmp_path / "new", smears[1::2])
    assert _vet(new, trusted) == UNDECIDED
    assert "trusted: 0 photos, without those that the" in capsys.readouterr().out


def test_photos_that_it_does_not_know(
    smears: list[Path], trusted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = _write_folder(tmp_path / "new", smears[1::2])
    for photo in (new / "JPEGImages").iterdir():
        cv2.imwrite(str(photo), 255 - cv2.imread(str(photo)))
    assert _vet(new, trusted) == UNDECIDED
    assert "the network does not know such photos; look at them" in capsys.readouterr().out


def test_what_cannot_be_vetted(
    smears: list[Path], trusted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = _write_folder(tmp_path / "new", smears[1:9:2])
    assert _vet(new, trusted) == UNDECIDED
    assert "too few photos to tell: 20 needed on each side" in capsys.readouterr().out
    assert _vet(new, trusted, "--rename", "WBC=leukocyte") == 1
    assert "leukocyte is none of the network's classes RBC, WBC, Platel" in capsys.readouterr().err
    assert _vet(new, trusted, "--pictures", str(tmp_path)) == 1
    assert f"{tmp_path} exists already: choose another --pictures" in capsys.readouterr().err
