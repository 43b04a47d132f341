"""Evaluation sets: read, refused, and mAP known by arithmetic."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client import Box, Detection, Result
from serving.errors import EvaluationError
from serving.release.evaluation import (
    EvaluationSet,
    leave_out_photos,
    read_evaluation,
    score_detections,
)

WIDE = Box(10, 10, 110, 60)  # 100 x 50
IMAGES = [{"id": 7, "file_name": "a.jpg"}, {"id": "eight", "file_name": "sub/b.jpg"}]
CATEGORIES = [{"id": 3, "name": "cell"}, {"id": 1, "name": "speck"}, {"id": 2, "name": "unused"}]


def annotation(image: Any = 7, box: Any = (10, 10, 100, 50), **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": 3, "bbox": list(box)} | more


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """write(images, categories, annotations) -> the file; its photos lie where IMAGES says."""
    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "sub/b.jpg"):
        (tmp_path / name).touch()

    def write(**lists: Any) -> Path:
        content = {"images": IMAGES, "categories": CATEGORIES, "annotations": [annotation()]}
        (tmp_path / "val.json").write_text(json.dumps(content | lists))
        return tmp_path / "val.json"

    return write


def result(*found: tuple[str, float, Box]) -> Result:
    return Result(tuple(Detection(label, 0, value, box) for label, value, box in found), 640, 480)


def test_labels_are_those_with_objects_in_the_files_order(write: Callable[..., Path]) -> None:
    speck = annotation("eight", category_id=1, iscrowd=1)
    path = write(annotations=[speck, annotation()])
    evaluation = read_evaluation(path)
    assert evaluation.labels == ("cell", "speck")
    assert list(evaluation.photos.values()) == [path.parent / "a.jpg", path.parent / "sub/b.jpg"]
    assert [(row["image_id"], row["category_id"], row["iscrowd"]) for row in evaluation.truth] == [
        (1, 1, 1),
        (0, 0, 0),
    ]


def test_photos_are_found_by_their_bare_name(write: Callable[..., Path], tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "/elsewhere/train/a.jpg"}]
    assert read_evaluation(write(images=images)).photos == {0: tmp_path / "a.jpg"}
    images = [{"id": 7, "file_name": "b.jpg"}]
    path = write(images=images)
    assert read_evaluation(path, tmp_path / "sub").photos == {0: tmp_path / "sub/b.jpg"}


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"images": []}, "annotations.0.: expected a bbox of 4 numbers, an image_id of images"),
        ({"images": [], "annotations": []}, "has no photos"),
        ({"annotations": []}, "has no annotated objects"),
        ({"categories": None}, "expected COCO's JSON, .* but categories is not one; `python -m tr"),
        ({"annotations": [1]}, "but annotations is not one"),
        ({"images": [{"id": 1}]}, r"images\[0\]: expected .*, found id 1, file_name None"),
        ({"images": [IMAGES[0], IMAGES[0]]}, r"images\[1\]: .* with an id of its own"),
        ({"images": [{"id": 7, "file_name": "c.jpg"}]}, "1 of 1 photos are missing, first .*c.jpg"),
        ({"images": [{"id": 7, "file_name": "a\0.jpg"}]}, "1 of 1 photos are missing"),
        ({"images": [{"id": 7, "file_name": "a" * 300}]}, "File name too long"),
        ({"categories": [{"id": [], "name": "cell"}]}, r"categories\[0\]: expected"),
        ({"annotations": [annotation([])]}, r"annotations\[0\]: expected a bbox"),
        ({"annotations": [annotation(box=(1, 2, 3))]}, r"found \[1, 2, 3\], 7, 3"),
        ({"annotations": [annotation(box=(1, 2, 0, 4))]}, "a width and a height above 0"),
        ({"annotations": [annotation(box=(1, 2, float("nan"), 4))]}, "above 0"),
    ],
)
def test_refusals(lists: dict[str, Any], message: str, write: Callable[..., Path]) -> None:
    with pytest.raises(EvaluationError, match=message) as caught:
        read_evaluation(write(**lists))
    assert str(caught.value).startswith(str(write()))


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="No such file or directory"):
        read_evaluation(tmp_path / "val.json")
    (tmp_path / "val.json").write_text("{")
    with pytest.raises(EvaluationError, match="is not JSON: Expecting"):
        read_evaluation(tmp_path / "val.json")


def test_labels_of_another_task(write: Callable[..., Path]) -> None:
    evaluation = read_evaluation(write())
    evaluation.check_labels(["speck", "cell"])
    with pytest.raises(EvaluationError, match="has objects of cell, but the labels are RBC, WBC"):
        evaluation.check_labels(["RBC", "WBC"])


def test_photos_that_were_trained_on_are_left_out(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a photo")
    first, second = (hashlib.sha256(content).hexdigest()[:12] for content in (b"a photo", b""))
    evaluation = read_evaluation(write(annotations=[annotation(7), annotation("eight")]))
    assert leave_out_photos(evaluation, ()) == evaluation
    kept = leave_out_photos(evaluation, {first})
    assert [path.name for path in kept.photos.values()] == ["b.jpg"]
    found = {number: result(("cell", 0.9, WIDE)) for number in kept.photos}
    assert score_detections(kept, found).map50 == pytest.approx(1)
    with pytest.raises(EvaluationError, match=r"trained on 2 of its 2 photos.*no fair comparison"):
        leave_out_photos(evaluation, {first, second})


@pytest.fixture
def one_cell_each(write: Callable[..., Path]) -> EvaluationSet:
    return read_evaluation(write(annotations=[annotation(7), annotation("eight")]))


def test_nothing_found(one_cell_each: EvaluationSet) -> None:
    metrics = score_detections(one_cell_each, {})
    assert (metrics.map50, metrics.map, metrics.images) == (0, 0, 2)
    assert metrics.per_class == {"cell": (0, 0)}
    assert score_detections(one_cell_each, {0: result(), 1: result()}) == metrics


def test_everything_found(one_cell_each: EvaluationSet) -> None:
    found = result(("cell", 0.9, WIDE))
    metrics = score_detections(one_cell_each, {0: found, 1: found})
    assert (metrics.map50, metrics.map) == pytest.approx((1, 1))


def test_one_of_two_found(one_cell_each: EvaluationSet) -> None:
    """Precision 1 at the 51 of 101 recalls from 0 to 0.5."""
    metrics = score_detections(one_cell_each, {0: result(("cell", 0.9, WIDE))})
    assert metrics.map50 == pytest.approx(51 / 101)


def test_box_that_is_off(one_cell_each: EvaluationSet) -> None:
    """38 pixels cut off 100: an IoU of 0.62 is enough at 0.5, 0.55 and 0.6, three of ten."""
    found = result(("cell", 0.9, Box(10, 10, 72, 60)))
    metrics = score_detections(one_cell_each, {0: found, 1: found})
    assert (metrics.map50, metrics.map) == pytest.approx((1, 0.3))


def test_a_false_one_before_the_right_ones(one_cell_each: EvaluationSet) -> None:
    """Precision 1/2 at recall 1/2, then 2/3: its envelope is 2/3 throughout."""
    false, right = ("cell", 0.95, Box(300, 300, 400, 400)), ("cell", 0.9, WIDE)
    metrics = score_detections(one_cell_each, {0: result(false, right), 1: result(right)})
    assert metrics.map50 == pytest.approx(2 / 3)


def test_labels_that_the_set_does_not_know(one_cell_each: EvaluationSet) -> None:
    found = result(("other", 0.95, WIDE), ("cell", 0.9, WIDE))
    assert score_detections(one_cell_each, {0: found, 1: found}).map50 == pytest.approx(1)


def test_crowds_are_neither_right_nor_wrong(write: Callable[..., Path]) -> None:
    rows = [annotation(7), annotation("eight", iscrowd=1), annotation(7, category_id=1, iscrowd=1)]
    evaluation = read_evaluation(write(annotations=rows))
    found = result(("cell", 0.9, WIDE))
    for answer in ({0: found}, {0: found, 1: found}):
        metrics = score_detections(evaluation, answer)
        assert metrics.per_class == {"cell": pytest.approx((1, 1))}  # speck: crowds only


def test_quiet(one_cell_each: EvaluationSet, capsys: pytest.CaptureFixture[str]) -> None:
    score_detections(one_cell_each, {})
    assert capsys.readouterr() == ("", "")
