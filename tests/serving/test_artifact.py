"""An artifact that cannot be served is refused with what was expected and what was found."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from serving.artifact import Signature, read_artifact
from serving.errors import PublishError


def test_good_artifact(make_artifact: Callable[..., Path]) -> None:
    artifact = read_artifact(make_artifact(["crack", "hole"], size=64, keep=20))
    assert artifact.labels == ("crack", "hole")
    assert artifact.signature == Signature(images=(64, 64, 3), boxes=(20, 4), scores=(20, 2))


def test_absent_folder(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"no artifact: model\.onnx is missing"):
        read_artifact(tmp_path / "absent")


def test_a_folder_of_artifacts_says_which_one(make_artifact: Callable[..., Path]) -> None:
    """As `training run` leaves it."""
    folder = make_artifact()
    folder.rename(folder.with_name("int8"))
    with pytest.raises(PublishError, match=r"model\.onnx is missing; .*int8 is one"):
        read_artifact(folder.parent)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("", "each once, found"),
        ("RBC\n\nWBC\n", "line 2 is empty"),
        ("RBC\nRBC\nWBC\n", "each once, found"),
        ("RBC\nWBC\n", r"scores must be \['batch', 400, 2\] for 2 labels, found"),
    ],
)
def test_bad_labels(labels: str, words: str, make_artifact: Callable[..., Path]) -> None:
    folder = make_artifact()
    (folder / "labels.txt").write_text(labels)
    with pytest.raises(PublishError, match=words):
        read_artifact(folder)


def test_bad_card(make_artifact: Callable[..., Path]) -> None:
    folder = make_artifact()
    (folder / "card.json").write_text("{")
    with pytest.raises(PublishError, match=r"card\.json is not JSON"):
        read_artifact(folder)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_how_photos_are_resized(make_artifact: Callable[..., Path]) -> None:
    folder = make_artifact(resize="letterbox")
    assert read_artifact(folder).signature.resize == "letterbox"
    (folder / "card.json").write_text("{}")  # of before cards said
    assert read_artifact(folder).signature.resize == "stretch"
    (folder / "card.json").write_text('{"resize": "crop"}')
    with pytest.raises(PublishError, match="resize must be stretch or letterbox, found 'crop'"):
        read_artifact(folder)


def write_reference(folder: Path, counts: list[int]) -> None:
    histogram = {"edges": [1, 2], "counts": counts}
    statistics = {"image_bytes": histogram, "detection_score": {"RBC": histogram}}
    reference = {"images": 3, "score_threshold": 0.5, "statistics": statistics}
    (folder / "card.json").write_text(json.dumps({"reference": reference}))


def test_what_drift_is_judged_by(make_artifact: Callable[..., Path]) -> None:
    folder = make_artifact()
    assert read_artifact(folder).reference is None  # of before cards said
    write_reference(folder, [1, 0, 2])
    reference = read_artifact(folder).reference
    assert reference == json.loads((folder / "card.json").read_text())["reference"]


@pytest.mark.parametrize("reference", [7, {}, {"statistics": 1}, {"statistics": {"x": 1}}])
def test_a_reference_that_is_none(make_artifact: Callable[..., Path], reference: Any) -> None:
    folder = make_artifact()
    (folder / "card.json").write_text(json.dumps({"reference": reference}))
    with pytest.raises(PublishError, match="reference must hold histograms of edges and counts"):
        read_artifact(folder)
    write_reference(folder, [1, 0])
    with pytest.raises(PublishError, match="export the artifact again"):
        read_artifact(folder)


def test_a_network_that_is_not_the_exported_one(make_artifact: Callable[..., Path]) -> None:
    folder = make_artifact()
    exported = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    (folder / "card.json").write_text(json.dumps({"sha256": exported}))
    read_artifact(folder)
    flip_a_bit(folder / "model.onnx")
    found = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    with pytest.raises(PublishError, match="is not the file that was exported") as told:
        read_artifact(folder)
    for part in (str(folder / "model.onnx"), exported, found, "copy or export"):
        assert part in str(told.value)


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_truncated_network(keep: int, make_artifact: Callable[..., Path]) -> None:
    folder = make_artifact()
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:keep])
    with pytest.raises(PublishError, match=r"model\.onnx is not a valid ONNX network"):
        read_artifact(folder)


def test_weights_in_another_file(make_artifact: Callable[..., Path]) -> None:
    """The file beside it would not be published."""
    folder = make_artifact()
    path = folder / "model.onnx"
    external: dict[str, Any] = {
        "save_as_external_data": True,
        "location": "weights.bin",
        "size_threshold": 0,
    }
    onnx.save(onnx.load(path), path, **external)
    assert (folder / "weights.bin").is_file()
    with pytest.raises(PublishError, match=r"its weights in another file, weights\.bin, expected"):
        read_artifact(folder)
    onnx.save(onnx.load(path), path)  # the remedy
    read_artifact(folder)


def test_wrong_tensor_names(make_artifact: Callable[..., Path]) -> None:
    folder = make_artifact()
    model = onnx.load(folder / "model.onnx")
    model.graph.output.pop()
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(PublishError, match="outputs boxes and scores, found images and boxes"):
        read_artifact(folder)


def test_fixed_batch_dimension(make_artifact: Callable[..., Path]) -> None:
    folder = make_artifact()
    model = onnx.load(folder / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(PublishError, match=r"images must be .* with a free batch dimension"):
        read_artifact(folder)


def test_scores_of_another_type(make_artifact: Callable[..., Path]) -> None:
    folder = make_artifact()
    model = onnx.load(folder / "model.onnx")
    model.graph.node[-1].output[0] = "floats32"
    model.graph.node.append(helper.make_node("Cast", ["floats32"], ["scores"], to=11))
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.DOUBLE
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(PublishError, match=r"scores must be tensor\(float\).*found tensor\(dou"):
        read_artifact(folder)


def test_output_that_is_not_finite(make_artifact: Callable[..., Path]) -> None:
    with pytest.raises(PublishError, match="scores that are not finite"):
        read_artifact(make_artifact(score=float("nan")))


@pytest.mark.parametrize("found", [[0.5], [0.5, 1.5], [0.5, "a"], 0.5, {"a": 0.5}])
def test_a_threshold_for_each_class(make_artifact: Callable[..., Path], found: Any) -> None:
    folder = make_artifact(["a", "b"])
    (folder / "card.json").write_text(json.dumps({"score_thresholds": [0.4, 1]}))
    assert read_artifact(folder).score_thresholds == (0.4, 1.0)
    (folder / "card.json").write_text(json.dumps({"score_thresholds": found}))
    with pytest.raises(PublishError, match="a number from 0 to 1 for each of the 2 labels, found"):
        read_artifact(folder)


@pytest.mark.parametrize(("name", "before"), [("iou_threshold", 0.45), ("voting_iou", 0.0)])
def test_which_boxes_are_one_object(
    make_artifact: Callable[..., Path], name: str, before: float
) -> None:
    folder = make_artifact()
    (folder / "card.json").write_text(f'{{"{name}": 0.6}}')
    assert getattr(read_artifact(folder), name) == 0.6
    (folder / "card.json").write_text("{}")  # of before cards said
    assert getattr(read_artifact(folder), name) == before
    (folder / "card.json").write_text(f'{{"{name}": 1.5}}')
    with pytest.raises(PublishError, match="must be a number from 0 to 1, found 1"):
        read_artifact(folder)
