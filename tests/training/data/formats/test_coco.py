"""Reading COCO: what is right comes out exactly, what is wrong is named and left out."""

import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from training.data import annotations, problems
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders
from training.data.formats import coco, coco_json
from training.data.layouts import open_folder

WIDTH, HEIGHT = 40, 30
BOX = [4.5, 5, 15.25, 20]
CATEGORIES = [{"id": 3, "name": "cell"}, {"id": 90, "name": "speck"}]


def annotation(image_id: Any = 7, **changes: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": image_id, "category_id": 3, "bbox": BOX, "iscrowd": 0} | changes


def image(image_id: Any = 7, name: Any = "a.png", **changes: Any) -> dict[str, Any]:
    return {"id": image_id, "file_name": name, "width": WIDTH, "height": HEIGHT} | changes


class CocoFolder:
    """A folder to write flaws into; every image is grey."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def image(self, name: str = "train2017/a.png") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
        return path

    def json(
        self,
        images: Any = None,
        objects: Any = (),
        categories: Any = None,
        name: str = "annotations/instances_train2017.json",
    ) -> None:
        content = {
            "images": [image()] if images is None else images,
            "annotations": list(objects),
            "categories": CATEGORIES if categories is None else categories,
        }
        self.text(json.dumps(content), name)

    def text(self, text: str, name: str = "annotations/instances_train2017.json") -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text, encoding="utf-8")

    def read(self, labels: Any = None, split: str = "train") -> annotations.Dataset:
        return coco.Folder(self.path).read(split, labels)


@pytest.fixture
def folder(tmp_path: Path) -> CocoFolder:
    """One image in train, and no objects yet."""
    folder = CocoFolder(tmp_path / "coco")
    folder.image()
    folder.json()
    return folder


def only(dataset: annotations.Dataset) -> problems.Problem:
    """The one problem of a data set."""
    assert len(dataset.problems) == 1, dataset.problems
    return dataset.problems[0]


def test_image_without_objects_is_an_image(folder: CocoFolder) -> None:
    dataset = folder.read()
    assert dataset.problems == ()
    assert dataset.annotations[0].image_id == "a"
    assert dataset.annotations[0].boxes_xyxy.shape == (0, 4)


def test_boxes_are_continuous_and_category_ids_sparse(folder: CocoFolder) -> None:
    folder.json(objects=[annotation(), annotation(category_id=90, bbox=[0, 0, WIDTH, HEIGHT])])
    found = folder.read().annotations[0]
    assert found.labels == ("cell", "speck")
    np.testing.assert_array_equal(found.boxes_xyxy, [[4.5, 5, 19.75, 25], [0.0, 0, WIDTH, HEIGHT]])


def test_crowds_are_difficult(folder: CocoFolder) -> None:
    flags: list[Any] = [1, "1", True, 0, "0", False, None, ""]
    folder.json(objects=[annotation(iscrowd=flag) for flag in flags])
    assert folder.read().problems == ()
    assert folder.read().annotations[0].difficult.tolist() == [True] * 3 + [False] * 5


def test_odd_flag_costs_no_box(folder: CocoFolder) -> None:
    """An object that is dropped while its image stays would be background."""
    folder.json(objects=[annotation(iscrowd="often")])
    assert only(folder.read()).fatal_for == "nothing"
    assert "expected 0 or 1 in iscrowd, found 'often'" in only(folder.read()).message
    assert len(folder.read().annotations[0].labels) == 1


def test_ids_are_numbers_or_text(folder: CocoFolder) -> None:
    """As many tools mix them; a name that is no number stays one."""
    folder.image("train2017/b.png")
    folder.json(
        images=[image("7"), image("x7", "b.png")],
        objects=[annotation(7.0, category_id="3"), annotation("x7", category_id=90.0)],
    )
    assert folder.read().problems == ()
    assert [found.labels for found in folder.read().annotations] == [("cell",), ("speck",)]


def test_polygons_where_there_is_no_bbox(folder: CocoFolder) -> None:
    polygons = [[4, 5, 9.5, 5, 9.5, 12], [3, 6, 4, 6, 4, 8]]
    rle = {"counts": "abc", "size": [HEIGHT, WIDTH]}
    folder.json(
        objects=[
            {"image_id": 7, "category_id": 3, "segmentation": polygons},
            annotation(bbox=[], segmentation=polygons),
            annotation(segmentation=rle, iscrowd=1),
        ]
    )
    (found,) = folder.read().annotations
    np.testing.assert_array_equal(found.boxes_xyxy[:2], [[3, 5, 9.5, 12]] * 2)
    assert len(found.labels) == 3
    folder.json(objects=[annotation(), annotation(bbox=None, segmentation=rle, iscrowd=1)])
    assert only(folder.read()).index == 1


@pytest.mark.parametrize(
    "name",
    [
        "images\\a.png",
        "C:\\photos\\images\\a.png",
        "/data/upload/images/a.png",
        "https://host/bucket/a.png",
        "my-set/images/a.png",
    ],
)
def test_names_from_another_machine(folder: CocoFolder, name: str) -> None:
    path = folder.image("images/a.png")
    (folder.path / "train2017/a.png").unlink()
    folder.json(images=[image(name=name)], objects=[annotation()])
    dataset = folder.read()
    assert dataset.problems == ()
    assert [found.image_path for found in dataset.annotations] == [path]


def test_the_end_of_a_name_counts_only_where_no_whole_one_does(folder: CocoFolder) -> None:
    """Or a photo that is missing would be taken for another one of that name."""
    folder.json(images=[image(), image(8, "monday/a.png")])
    assert only(folder.read()).kind == "missing image"


def test_ends_of_names_that_lead_to_one_file(folder: CocoFolder) -> None:
    folder.json(images=[image(7, "/monday/a.png"), image(8, "/tuesday/a.png")])
    assert [problem.kind for problem in folder.read().problems] == ["duplicate id"] * 2


@pytest.mark.parametrize("split", ["", "validation/"])
def test_fiftyone(tmp_path: Path, split: str) -> None:
    folder = CocoFolder(tmp_path / "test")
    path = folder.image(f"{split}data/a.png")
    folder.json(objects=[annotation()], name=f"{split}labels.json")
    dataset = Folders(FolderSettings((folder.path,), val=0)).read("val" if split else "train")
    assert dataset.problems == ()
    assert [found.image_path for found in dataset.annotations] == [path]


def test_json_of_another_kind_is_passed_over(folder: CocoFolder, tmp_path: Path) -> None:
    folder = CocoFolder(tmp_path / "beside")
    folder.image("a.png")
    folder.json(name="annotations.json")
    folder.text('["cell"]', "classes.json")
    opened = coco.Folder(folder.path)
    assert opened.splits() == ["all"]
    assert [(flaw.file, flaw.fatal_for) for flaw in opened.strays()] == [
        ("classes.json", "nothing")
    ]
    folder.text("{", "broken.json")  # it may have been a split
    assert coco.Folder(folder.path).splits() == ["annotations", "broken"]
    folder.text("{}", "val.json")
    assert "val" in coco.Folder(folder.path).splits()


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"bbox": [4, 5, 0, 9]}, "zero area", "bbox 4, 5, 0, 9"),
        ({"bbox": [4, 5, 3, -9]}, "zero area", "a height above 0"),
        ({"bbox": [WIDTH, 5, 3, 9]}, "outside the image", "bbox 40, 5, 3, 9 in an image of 40x30"),
        ({"bbox": [-9, 5, 1e300, 9]}, "clipped", "bbox -9, 5"),
        ({"bbox": [1e308, 1, 1e308, 9]}, "outside the image", "1e+308"),
        ({"bbox": [4, float("nan"), 3, 9]}, "bad object", "expected a number in bbox, found nan"),
        ({"bbox": [4, 10**400, 3, 9]}, "bad object", "expected a number in bbox"),
        ({"bbox": [4, None, 3, 9]}, "bad object", "found None"),
        ({"bbox": [4, 5, 3]}, "bad object", "a bbox of 4 numbers"),
        ({"bbox": None}, "bad object", "a bbox of 4 numbers, found None"),
        ({"bbox": {"x": 1}}, "bad object", "a bbox of 4 numbers"),
        ({"bbox": [4, 5, 0, 0]}, "zero area", "bbox 4, 5, 0, 0"),
        ({"bbox": [4, 5, 0.5, 9]}, "under a pixel", "bbox 4, 5, 0.5, 9"),
        ({"bbox": [0.1, 0.2, 0.3, 0.8]}, "shares, not pixels", "bbox 0.1, 0.2"),
        ({"category_id": 4}, "unknown class", "category_id 4 is no id in categories"),
        ({"category_id": -1}, "unknown class", "category_id -1"),
        ({"category_id": [[]]}, "unknown class", "no id in categories"),
        ({"image_id": 99}, "missing image", "image_id 99 is no id in images"),
        ({"image_id": None}, "missing image", "image_id None"),
        ({"image_id": {}}, "missing image", "image_id {}"),
    ],
)
def test_flawed_object(folder: CocoFolder, changes: Any, kind: str, message: str) -> None:
    """The flawed one is named; an object that is lost takes its image along."""
    folder.json(objects=[annotation(), annotation(**changes)])
    dataset = folder.read()
    problem = only(dataset)
    assert (problem.file, problem.index) == ("annotations/instances_train2017.json", 1)
    assert problem.kind == kind
    assert message in problem.message
    kept = {"clipped": 2, "missing image": 1}
    boxes = 1 if changes.get("bbox") == [4, 5, 0, 0] else kept.get(kind)
    assert problem.fatal_for == {2: "nothing", 1: "box", None: "image"}[boxes]
    assert [len(found.labels) for found in dataset.annotations] == [boxes] * (boxes is not None)


@pytest.mark.parametrize("record", [None, 3, [], "x"])
def test_object_that_is_none(folder: CocoFolder, record: Any) -> None:
    folder.json(objects=[record])
    assert only(folder.read()).index == 0


def test_class_outside_the_list(folder: CocoFolder) -> None:
    folder.json(objects=[annotation(), annotation(category_id=90)])
    assert only(folder.read(["cell"])).kind == "unknown class"


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (image(8, "../a.png"), "bad id"),
        (image(8, "/etc/passwd"), "bad id"),
        (image(8, "b\0.png"), "bad id"),
        (image(8, "\ud800.png"), "bad id"),
        (image(8, ""), "bad id"),
        (image(8, "."), "bad id"),
        (image(8, 3), "bad id"),
        (image(None, "b.png"), "bad id"),
        ([], "bad id"),
        (image(8, "b.png"), "missing image"),
        (image(8, "b" * 5000 + ".png"), "missing image"),
    ],
)
def test_flawed_image(folder: CocoFolder, record: Any, kind: str) -> None:
    """The flawed one is named and left out; the sound one beside it stays."""
    folder.json(images=[image(), record])
    dataset = folder.read()
    assert only(dataset).kind == kind
    assert only(dataset).fatal_for == "image"
    assert str(only(dataset)).isprintable()
    assert [annotation.image_id for annotation in dataset.annotations] == ["a"]


def test_image_named_again(folder: CocoFolder) -> None:
    folder.json(images=[image(), image(name="./a.png")], objects=[annotation()])
    dataset = folder.read()
    assert only(dataset).kind == "duplicate id"
    assert only(dataset).fatal_for == "nothing"
    assert [len(found.labels) for found in dataset.annotations] == [1]


@pytest.mark.parametrize(
    "again",
    [image(8, "a.png"), image(7, "b.png"), image("7", "b.png"), image(8, "train2017\\a.png")],
)
def test_ambiguous_images_are_left_out(folder: CocoFolder, again: Any) -> None:
    """Nobody knows whose the objects are."""
    folder.image("train2017/b.png")
    folder.json(images=[image(), again, image(9, "c.png")], objects=[annotation()])
    folder.image("train2017/c.png")
    dataset = folder.read()
    assert {problem.kind for problem in dataset.problems} == {"duplicate id"}
    assert [found.image_id for found in dataset.annotations] == ["c"]


@pytest.mark.parametrize(
    ("changes", "fatal_for"),
    [
        ({"width": WIDTH + 1, "height": HEIGHT}, "nothing"),
        ({"width": None}, "nothing"),
        ({"width": 80, "height": 60}, "image"),
        ({"width": 20, "height": 20}, "image"),
    ],
)
def test_size_that_disagrees(folder: CocoFolder, changes: Any, fatal_for: str) -> None:
    folder.json(images=[image(**changes)], objects=[annotation()])
    assert only(folder.read()).kind == "size disagrees"
    assert only(folder.read()).fatal_for == fatal_for


def test_boxes_before_rotation_are_left_out(folder: CocoFolder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(folder.image("train2017/a.jpg")) as picture:
        picture.save(folder.path / "train2017/a.jpg", exif=exif)
    folder.json(images=[image(name="a.jpg")], objects=[annotation()])
    assert "before EXIF rotation" in only(folder.read()).message


def test_image_that_does_not_decode(folder: CocoFolder) -> None:
    (folder.path / "train2017/a.png").write_bytes(b"no image")
    assert only(folder.read()).file == "train2017/a.png"
    assert only(folder.read()).kind == "bad image"


@pytest.mark.parametrize("place", ["train2017/a.png", "annotations/instances_train2017.json"])
def test_link_out_of_the_folder(folder: CocoFolder, tmp_path: Path, place: str) -> None:
    path = folder.path / place
    path.rename(tmp_path / path.name)
    path.symlink_to(tmp_path / path.name)
    if path.suffix == ".json":
        with pytest.raises(problems.BadSplitError, match="leaves the folder"):
            folder.read()
    else:
        assert (only(folder.read()).file, only(folder.read()).kind) == (place, "outside the folder")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not acceptable as JSON"),
        ("{", "not acceptable as JSON"),
        ("\ufffe", "not acceptable as JSON"),
        ("[" * 100_000, "not acceptable as JSON: RecursionError"),
        ("9" * 10_000, "not acceptable as JSON"),
        ("[]", "expected an object with the lists images, annotations, categories"),
        ('{"images": [], "annotations": {}, "categories": []}', "expected an object with"),
    ],
)
def test_malformed_and_hostile_json(folder: CocoFolder, text: str, message: str) -> None:
    folder.text(text)
    with pytest.raises(problems.BadSplitError, match=message) as caught:
        folder.read()
    assert caught.value.file == "annotations/instances_train2017.json"


def test_huge_json_is_not_read(folder: CocoFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_json, "JSON_LIMIT", 10)
    with pytest.raises(problems.BadSplitError, match="the limit is 10"):
        folder.read()


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([3], r"categories\[0\]: expected"),
        ([{"name": "cell"}], r"categories\[0\]: expected"),
        ([{"id": 1, "name": None}], r"categories\[0\]: expected a class name, found None"),
        ([{"id": 1, "name": "\x1b[31m"}], "cannot be printed"),
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "its id 1 has two names"),
    ],
)
def test_flawed_categories(folder: CocoFolder, categories: Any, message: str) -> None:
    folder.json(categories=categories)
    with pytest.raises(problems.BadSplitError, match=message):
        folder.read()


@pytest.mark.parametrize(
    ("file", "picture", "name", "split"),
    [
        ("annotations/instances_val2017.json", "val2017/a.png", "a.png", "val"),
        ("annotations/instances_val2017.json", "images/val2017/a.png", "a.png", "val"),
        ("annotations/val.json", "images/valid/a.png", "a.png", "val"),
        ("annotations/instances_default.json", "images/a.png", "a.png", "all"),
        ("annotations/test.json", "test/deep/a.png", "deep/a.png", "test"),
        ("valid/_annotations.coco.json", "valid/a.png", "a.png", "val"),
        ("train.json", "images/a.png", "images/a.png", "train"),
        ("result.json", "a.png", "a.png", "all"),
        ("labels.json", "a.png", "a.png", "all"),
    ],
)
def test_layouts(tmp_path: Path, file: str, picture: str, name: str, split: str) -> None:
    folder = CocoFolder(tmp_path)
    folder.image(picture)
    folder.json(images=[image(name=name)], name=file)
    assert coco.Folder(tmp_path).splits() == [split]
    dataset = folder.read(split=split)
    assert dataset.problems == ()
    assert dataset.annotations[0].image_path == tmp_path / picture


def test_files_without_objects_are_passed_over(folder: CocoFolder) -> None:
    """COCO's own folder has captions and keypoints of the same images."""
    folder.text("{}", "annotations/captions_train2017.json")
    folder.text("{}", "other.json")
    assert coco.Folder(folder.path).splits() == ["train"]


def test_folder_that_cannot_be_opened(folder: CocoFolder, tmp_path: Path) -> None:
    with pytest.raises(problems.DataError, match="not a COCO folder; expected annotations/"):
        coco.Folder(tmp_path)
    with pytest.raises(problems.BadSplitError, match="no file of a split val; splits here: tr"):
        folder.read(split="val")
    folder.json(name="annotations/instances_train2014.json")
    with pytest.raises(problems.DataError, match="are both the split train; move one away"):
        coco.Folder(folder.path)


sizes = st.floats(1.25, 20, width=32)  # float32 corners may make 1 a little less
boxes = st.tuples(st.floats(0, 20, width=32), st.floats(0, 10, width=32), sizes, sizes)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(boxes, st.sampled_from(CATEGORIES), st.booleans()), max_size=8))
def test_pycocotools_reads_the_same(objects: Any) -> None:
    """Boxes, classes and crowds, in their order."""
    with tempfile.TemporaryDirectory() as path:
        folder = CocoFolder(Path(path))
        folder.image()
        folder.json(
            objects=[
                annotation(
                    id=number, bbox=list(box), category_id=category["id"], iscrowd=int(crowd)
                )
                for number, (box, category, crowd) in enumerate(objects, 1)
            ]
        )
        found = folder.read().annotations[0]
        theirs = COCO(str(folder.path / "annotations/instances_train2017.json"))
    records = theirs.loadAnns(theirs.getAnnIds(imgIds=[7]))
    x, y, width, height = np.array([record["bbox"] for record in records]).reshape(-1, 4).T
    edges = np.stack([x, y, np.minimum(x + width, WIDTH), np.minimum(y + height, HEIGHT)], 1)
    np.testing.assert_allclose(found.boxes_xyxy, edges, atol=1e-5)
    names = [category["name"] for category in theirs.loadCats([r["category_id"] for r in records])]
    assert list(found.labels) == names
    assert found.difficult.tolist() == [bool(record["iscrowd"]) for record in records]


def test_labelme_is_refused_once(tmp_path: Path) -> None:
    folder = CocoFolder(tmp_path)
    for name in "abc":
        folder.text('{"shapes": [], "imagePath": "a.png"}', f"{name}.json")
    with pytest.raises(problems.DataError, match=r"none of its 3 JSON files is COCO\. label"):
        open_folder(tmp_path)
