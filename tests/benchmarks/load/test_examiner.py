"""What is read in answers, and what is found wrong in them."""

import numpy as np
from tritonclient.grpc import service_pb2

from benchmarks.load.examiner import Examiner, read_json, read_triton
from benchmarks.load.transport import Answer


def answer_of(body: bytes, status: str = "OK") -> Answer:
    return Answer(0, 0.0, 1.0, status, body)


def test_examiner_reads_some_answers_and_finds_wrong_ones() -> None:
    examiner = Examiner(read_json, [(2, 1.5)], every=1)
    assert examiner.verdict(answer_of(b'{"scores": [0.9, 0.6]}')) == "OK"
    assert examiner.verdict(answer_of(b'{"output": {"scores": [0.9, 0.6]}}')) == "OK"
    assert examiner.verdict(answer_of(b'{"scores": [0.9]}')) == "WRONG"
    assert examiner.verdict(answer_of(b'{"scores": [0.9, 0.9]}')) == "WRONG"
    assert examiner.verdict(answer_of(b"", "UNAVAILABLE")) == "UNAVAILABLE"
    seldom = Examiner(read_json, [(2, 1.5)], every=2)
    wrong = answer_of(b'{"scores": []}')
    assert [seldom.verdict(wrong) for _ in range(4)] == ["OK", "WRONG", "OK", "WRONG"]


def test_triton_answers_are_read() -> None:
    answer = service_pb2.ModelInferResponse()
    for name, array in {
        "num_detections": np.array([[2]], np.int32),
        "detection_scores": np.array([[0.75, 0.5, 0.0]], np.float32),
    }.items():
        answer.outputs.add(name=name)
        answer.raw_output_contents.append(array.tobytes())
    assert read_triton(answer.SerializeToString()) == [0.75, 0.5]
