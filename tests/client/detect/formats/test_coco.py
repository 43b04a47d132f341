import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from client import Detection, DetectorError, InvalidParameter
from client.detect.formats import coco
from client.detect.journal import Entry
from serving.release.evaluation import read_evaluation
from tests.client.detect.formats.conftest import FOUND, entry
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """An annotation file with ids of its own; the photos are below another folder."""
    content = {
        "images": [
            {"id": 7, "file_name": "b/photo.jpg", "width": 64, "height": 48},
            {"id": 9, "file_name": "../photos/a/photo.jpg", "width": 64, "height": 48},
        ],
        "categories": [{"id": 3, "name": "RBC"}, {"id": 5, "name": "WBC"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 3, "bbox": [10, 5, 20, 35], "area": 700}
            | {"iscrowd": 0}
            for n in (7, 9)
        ],
    }
    path = tmp_path / "annotations" / "truth.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    return path


def test_a_document_of_nothing_has_three_empty_lists(tmp_path: Path) -> None:
    coco.write_document([], tmp_path / "found.json", tmp_path)
    content = json.loads((tmp_path / "found.json").read_text())
    assert content == {"images": [], "annotations": [], "categories": []}


def test_a_document_is_read_by_pycocotools(
    entries: list[Entry], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco.write_document(entries, tmp_path / "found.json", tmp_path)
    found = COCO(str(tmp_path / "found.json"))
    assert [image["file_name"] for image in found.loadImgs(found.getImgIds())] == [
        "photos/a/photo.jpg",
        "photos/b/photo.jpg",
        "photos/b/empty.png",
    ]
    assert {row["id"]: row["name"] for row in found.cats.values()} == {1: "RBC", 3: "Platelets"}
    (first, *_) = found.loadAnns(found.getAnnIds(imgIds=[1]))
    assert first["bbox"] == [10.25, 5.5, 20.25, 34.5]
    assert (first["score"], first["category_id"]) == (0.75, 1)


def test_a_document_is_read_by_training_and_serving(entries: list[Entry], tmp_path: Path) -> None:
    coco.write_document(entries, tmp_path / "found.json", tmp_path)
    read = Folders(FolderSettings((tmp_path,), val=0)).read("train")
    assert not read.problems
    found = {str(item.image_path): item for item in read.annotations}
    np.testing.assert_allclose(
        found[entries[0]["file"]].boxes_xyxy, [[10.25, 5.5, 30.5, 40.0], [0.0, 0.0, 64.0, 48.0]]
    )
    assert found[entries[2]["file"]].labels == ()
    assert len(read_evaluation(tmp_path / "found.json").truth) == 3


def test_results_are_what_pycocotools_loads(
    entries: list[Entry], truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco.write_results(entries[:2], tmp_path / "found.json", coco.read_ids(truth))
    rows = json.loads((tmp_path / "found.json").read_text())
    assert rows[0] == {
        "image_id": 9,
        "category_id": 3,
        "bbox": [10.25, 5.5, 20.25, 34.5],
        "score": 0.75,
    }
    assert [row["image_id"] for row in rows] == [9, 7]  # Platelets are no category there
    known = COCO(str(truth))
    evaluator = COCOeval(known, known.loadRes(str(tmp_path / "found.json")), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    assert evaluator.eval["precision"][0, :, 0, 0, -1] == pytest.approx(1)


def test_results_of_nothing_are_an_empty_list(truth: Path, tmp_path: Path) -> None:
    coco.write_results([], tmp_path / "found.json", coco.read_ids(truth))
    assert json.loads((tmp_path / "found.json").read_text()) == []


def test_a_photo_is_the_image_whose_name_its_path_ends_with(truth: Path) -> None:
    ids = coco.read_ids(truth)
    assert ids.image("/somewhere/else/b/photo.jpg") == 7
    assert ids.image("/photos/a/photo.jpg") == 9
    assert ids.image("/a/photo.jpg") is None
    assert ids.image("xb/photo.jpg") is None


def test_a_photo_behind_a_link_has_both_its_names(truth: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("photos/b")
    (tmp_path / "b").symlink_to("photos")
    ids = coco.read_ids(truth)
    assert ids.image(tmp_path / "link" / "photo.jpg") == 7
    assert ids.image(tmp_path / "b" / "photo.jpg") == 7


def test_labels_without_any_category_are_a_mistake(truth: Path, tmp_path: Path) -> None:
    cars = entry(Path("b/photo.jpg"), Detection("car", 0, 0.5, FOUND[0].box))
    with pytest.raises(DetectorError, match=r"\(car\) is a category of --coco-ids \(RBC, WBC\)"):
        coco.write_results([cars], tmp_path / "found.json", coco.read_ids(truth))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"images": 3, "categories": []}',
        '{"images": [{}], "categories": []}',
        '{"images": [{"id": 1, "file_name": 3}], "categories": []}',
    ],
)
def test_ids_that_cannot_be_read_are_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "truth.json").write_text(content)
    with pytest.raises(InvalidParameter, match=r"truth\.json: expected COCO's JSON"):
        coco.read_ids(tmp_path / "truth.json")
    with pytest.raises(InvalidParameter, match=r"missing\.json: No such file"):
        coco.read_ids(tmp_path / "missing.json")


def test_images_of_one_name_are_told(tmp_path: Path) -> None:
    rows = [{"id": number, "file_name": "a.jpg"} for number in (1, 2)]
    (tmp_path / "truth.json").write_text(json.dumps({"images": rows, "categories": []}))
    with pytest.raises(InvalidParameter, match="several images have one file_name"):
        coco.read_ids(tmp_path / "truth.json")
