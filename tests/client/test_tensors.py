from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from client import Detection, InvalidParameter, Result, ServerError, tensors
from client.tensors import Output
from tests.client.conftest import Tensors, answer_tensors, response_of


def parsed(answer: Tensors) -> Result:
    return tensors.result_of(tensors.arrays_of(outputs_of(answer)))


def outputs_of(answer: Tensors) -> list[Output]:
    """Return the tensors as they travel."""
    response = response_of(answer)
    contents = zip(response.outputs, response.raw_output_contents, strict=True)
    return [Output(head.name, head.datatype, head.shape, data) for head, data in contents]


def test_nothing_found_is_an_empty_result() -> None:
    assert parsed(answer_tensors(size=(480, 640))) == Result((), width=640, height=480)


def test_who_answered_is_told_and_makes_no_difference() -> None:
    result = tensors.result_of(answer_tensors(), model="ensemble", server="10.0.0.1:8001")
    assert (result.model, result.server) == ("ensemble", "10.0.0.1:8001")
    assert result == tensors.result_of(answer_tensors())


def test_rows_past_the_count_are_left_out(cell: Detection) -> None:
    answer = answer_tensors([cell, cell])
    answer["num_detections"][0, 0] = 1
    assert parsed(answer).detections == (cell,)


def test_all_rows_may_be_real_and_keep_their_order(cell: Detection) -> None:
    white = Detection("WBC \u00e9", 1, 0.5, cell.box)
    assert parsed(answer_tensors([cell, white, cell, white])).detections == (
        cell,
        white,
        cell,
        white,
    )


def test_a_label_that_is_not_text_does_not_stop_the_rest(cell: Detection) -> None:
    answer = answer_tensors([cell])
    answer["detection_labels"][0, 0] = b"\xff"
    assert parsed(answer).detections[0].label == "\ufffd"


def without_boxes(answer: Tensors) -> None:
    del answer["detection_boxes"]


def of_two_images(answer: Tensors) -> None:
    answer["detection_boxes"] = np.zeros((2, 4, 4), np.float32)


def fewer_scores(answer: Tensors) -> None:
    answer["detection_scores"] = np.zeros((1, 3), np.float32)


def integer_boxes(answer: Tensors) -> None:
    answer["detection_boxes"] = np.zeros((1, 4, 4), np.int32)


def too_many(answer: Tensors) -> None:
    answer["num_detections"][0, 0] = 5


def negative(answer: Tensors) -> None:
    answer["num_detections"][0, 0] = -1


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without_boxes, "the answer has no tensor detection_boxes"),
        (of_two_images, r"detection_boxes must have .*\[1, 'M', 4\].* shape \[2, 4, 4\]"),
        (fewer_scores, r"detection_scores must have .*\[1, 4\].* shape \[1, 3\]"),
        (integer_boxes, r"detection_boxes must .* but got int32"),
        (too_many, "num_detections must be 0 to 4, but is 5"),
        (negative, "num_detections must be 0 to 4, but is -1"),
    ],
)
def test_an_answer_with_other_tensors_is_refused(
    spoil: Callable[[Tensors], Any], says: str
) -> None:
    answer = answer_tensors()
    spoil(answer)
    with pytest.raises(ServerError, match=says):
        parsed(answer)


@pytest.mark.parametrize("name", ["detection_boxes", "detection_labels"])
def test_a_tensor_shorter_than_its_shape_is_refused(name: str) -> None:
    outputs = [
        output._replace(data=output.data[:5]) if output.name == name else output
        for output in outputs_of(answer_tensors())
    ]
    with pytest.raises(ServerError, match=f"{name} does not fit its own shape"):
        tensors.arrays_of(outputs)


def test_a_tensor_of_an_unknown_type_is_left_out() -> None:
    assert tensors.arrays_of([Output("new", "FP4", [1], b"\0")]) == {}


def test_bytes_travel_behind_their_length() -> None:
    assert tensors.packed(b"photo\0") == b"\x06\0\0\0photo\0"


def test_parameters_left_out_are_not_sent() -> None:
    assert tensors.request_parameters() == {}
    assert tensors.request_parameters(score_threshold=None, max_detections=None) == {}


def test_parameters_may_be_numpy_numbers() -> None:
    numbers: dict[str, Any] = {"score_threshold": np.float32(0.5), "max_detections": np.int64(3)}
    given = tensors.request_parameters(iou_threshold=0, **numbers)
    assert given == {"score_threshold": 0.5, "iou_threshold": 0.0, "max_detections": 3}
    assert [type(value) for value in given.values()] == [float, float, int]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), np.float32("-inf")])
def test_a_number_that_json_has_not_is_refused_in_the_servers_words(number: float) -> None:
    with pytest.raises(InvalidParameter, match=r"score_threshold is .*, a number from 0 to 1"):
        tensors.request_parameters(score_threshold=number)


def test_a_number_that_no_protocol_carries_is_refused() -> None:
    assert tensors.request_parameters(max_detections=-(2**63)) == {"max_detections": -(2**63)}
    for number in (2**63, -(2**63) - 1):
        with pytest.raises(InvalidParameter, match=r"max_detections is .*, a smaller integer"):
            tensors.request_parameters(max_detections=number)


def test_an_unknown_parameter_is_the_callers_mistake() -> None:
    with pytest.raises(TypeError, match="threshold"):
        tensors.request_parameters(threshold=0.5)  # type: ignore[call-arg]
