"""What the tests of both transports share."""

from benchmarks.load import loops
from benchmarks.load.transport import Answer, Transport


def gather(transport: Transport, count: int) -> list[Answer]:
    answers: list[Answer] = []
    while len(answers) < count:
        answers += loops.wait_for_answers(transport, count - len(answers))
    return sorted(answers)
