"""What is written comes back through the readers of training with the same boxes."""

import json
import os
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.errors import TrainingError
from training.labelling.draft_folder import Format, make_folder, name_photos, write_drafts
from training.labelling.drafts import Draft
from training.network.onnx_network import OnnxNetwork

NAMES = ("day one-a b.jpg", "day two-a b.jpg", "größe.JPG")


@pytest.fixture
def named(drafts: list[Draft], photos: Path) -> dict[str, Draft]:
    names = name_photos((draft.annotation.image_path for draft in drafts), photos)
    return dict(zip(names, drafts, strict=True))


def test_names_are_flat_and_of_one_file_each(photos: Path) -> None:
    root = Path("/photos")
    given = ("a.jpg", "A.png", "b/c.jpg", "b-c.jpg", "classes.jpg", "x\ny.jpg", f"{'ä' * 200}.jpg")
    names = name_photos([root / name for name in given], root)
    stems = [Path(name).stem for name in names]
    assert names[:6] == ["a.jpg", "A-2.png", "b-c.jpg", "b-c-2.jpg", "classes-2.jpg", "x_y.jpg"]
    assert len(os.fsencode(names[6])) < 256
    assert len({stem.casefold() for stem in stems}) == len(given)
    assert name_photos([], root) == []


@pytest.mark.parametrize(("form", "tolerance"), [("voc", 0.51), ("coco", 0.0), ("yolo", 0.001)])
def test_training_reads_the_same_boxes(
    form: Format,
    tolerance: float,
    named: dict[str, Draft],
    network: OnnxNetwork,
    tmp_path: Path,
) -> None:
    write_drafts(named, network.labels, tmp_path, form)
    folders = Folders(FolderSettings((tmp_path,), val=0))
    (split,) = folders.splits()
    dataset = folders.read(split, network.labels)
    assert (dataset.problems, folders.strays()) == ((), [])
    read = {item.image_path.name: item for item in dataset.annotations}
    assert sorted(read) == sorted(NAMES)
    for name, draft in named.items():
        assert len(draft.annotation.labels) > 10
        assert read[name].labels == draft.annotation.labels
        far = np.abs(read[name].boxes_xyxy - draft.annotation.boxes_xyxy)
        assert far.max() <= tolerance
    folders = Folders(FolderSettings((tmp_path,)))
    assert [len(each.annotations) for each in folders.datasets()] == [2, 1]  # as `records` reads


@pytest.mark.parametrize("form", ["voc", "coco", "yolo"])
def test_photos_without_boxes_are_there_too(
    form: Format, named: dict[str, Draft], network: OnnxNetwork, tmp_path: Path
) -> None:
    write_drafts({k: x.above(1.0) for k, x in named.items()}, network.labels, tmp_path, form)
    folders = Folders(FolderSettings((tmp_path,), val=0))
    (split,) = folders.splits()
    assert [item.labels for item in folders.read(split).annotations] == [(), (), ()]


def test_scores_stay_where_the_format_can(
    named: dict[str, Draft], network: OnnxNetwork, tmp_path: Path
) -> None:
    scores = [score for draft in named.values() for score in draft.scores.tolist()]
    for form in ("voc", "coco", "yolo"):
        (tmp_path / form).mkdir()
        write_drafts(named, network.labels, tmp_path / form, form)
    xmls = [tmp_path / f"voc/Annotations/{Path(name).stem}.xml" for name in named]
    texts = [e.text for xml in xmls for e in ElementTree.parse(xml).iter("confidence")]
    assert texts == [f"{score:.4f}" for score in scores]
    content = json.loads((tmp_path / "coco/annotations/instances_default.json").read_text())
    assert [row["score"] for row in content["annotations"]] == scores
    lines = (tmp_path / "yolo/labels/größe.txt").read_text().splitlines()
    assert {len(line.split()) for line in lines} == {5}  # a sixth one labelImg does not read
    for place in ("classes.txt", "labels/classes.txt"):
        assert (tmp_path / "yolo" / place).read_text().split() == list(network.labels)


def test_a_photo_takes_no_room(
    named: dict[str, Draft], network: OnnxNetwork, tmp_path: Path
) -> None:
    write_drafts(named, network.labels, tmp_path, "coco")
    for name, draft in named.items():
        assert (tmp_path / "images" / name).samefile(draft.annotation.image_path)


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    output = tmp_path / "new"
    with suppress(KeyboardInterrupt), make_folder(output) as folder:
        (folder / "half").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with make_folder(output) as folder:
        (folder / "whole").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "whole"]
    with pytest.raises(TrainingError, match="new exists already"), make_folder(output):
        pass
