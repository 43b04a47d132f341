"""Whether answers are right: some of them are read and compared with what they should be."""

import json
import struct
from collections.abc import Callable, Sequence

from tritonclient.grpc import service_pb2

from benchmarks.load.transport import Answer

SAMPLE = 20  # every so many answers one is read and compared with what it should be
TOLERANCE = 0.01  # of the sum of a photo's scores


def read_triton(body: bytes) -> list[float]:
    """The scores in a ModelInferResponse, of rows that are real."""
    answer = service_pb2.ModelInferResponse.FromString(body)
    names = [output.name for output in answer.outputs]
    raw = dict(zip(names, answer.raw_output_contents, strict=True))
    name = "detection_scores" if "detection_scores" in raw else "scores"
    content = raw[name]
    scores = struct.unpack(f"<{len(content) // 4}f", content)
    count = struct.unpack("<i", raw["num_detections"])[0] if "num_detections" in raw else None
    return list(scores[:count])


def read_json(body: bytes) -> list[float]:
    """The scores in a peer's JSON: under "scores", on top or in a field of the top."""
    content = json.loads(body)
    if "scores" not in content:
        content = next(value for value in content.values() if "scores" in value)
    return list(content["scores"])


class Examiner:
    """Reads some of the answers and compares their scores with what they should be.

    Args:
        read: body to scores.
        expected: of each photo, how many detections and the sum of their scores; empty: every
            answer that can be read is right.
    """

    def __init__(
        self,
        read: Callable[[bytes], list[float]],
        expected: Sequence[tuple[int, float]],
        every: int = SAMPLE,
    ) -> None:
        self.read, self.expected, self.every = read, expected, every
        self._count = 0

    def verdict(self, answer: Answer) -> str:
        """OK, the status of a failed request, or WRONG."""
        self._count += 1
        if answer.status != "OK" or self._count % self.every:
            return answer.status
        scores = self.read(answer.body)
        if not self.expected:
            return "OK"
        count, total = self.expected[answer.number]
        right = len(scores) == count and abs(sum(scores) - total) < TOLERANCE
        return "OK" if right else "WRONG"
