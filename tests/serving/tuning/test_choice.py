"""The best of several candidates is better by more than noise."""

from collections.abc import Sequence

import pytest

from serving.tuning.candidates import AS_IS, Candidate
from serving.tuning.choice import choose_best, measure_unrest
from serving.tuning.load_generator import Sample
from serving.tuning.measurement import Result

ONE = Candidate(instances=1, threads=2)
TWO = Candidate(instances=2, threads=1, decoders=2)


def result(candidate: Candidate, throughput: int, ms: float = 10.0, trouble: str = "") -> Result:
    found = Result(candidate, ("2", "1", "1", "alone"), 200.0, trouble=trouble)
    found.add(4, Sample(1.0, [ms] * throughput))
    return found


@pytest.mark.parametrize(
    ("results", "latency", "expected"),
    [
        ([result(AS_IS, 100)], 0, AS_IS),
        ([result(AS_IS, 100), result(ONE, 102)], 0, AS_IS),  # noise
        ([result(AS_IS, 100), result(ONE, 110), result(TWO, 105)], 0, ONE),
        ([result(AS_IS, 100), result(ONE, 110, ms=30)], 20, AS_IS),
        ([result(AS_IS, 100, ms=30), result(ONE, 50)], 20, ONE),
        ([result(AS_IS, 100, ms=30), result(ONE, 50, ms=25)], 20, ONE),  # the nearest
        ([result(AS_IS, 100, trouble="no"), result(ONE, 50)], 0, ONE),
        ([result(AS_IS, 100), result(ONE, 200, trouble="no")], 0, AS_IS),
    ],
)
def test_choice(results: Sequence[Result], latency: float, expected: Candidate) -> None:
    assert choose_best(results, latency).candidate == expected


def test_busy_machine() -> None:
    assert measure_unrest([]) == measure_unrest([[result(AS_IS, 100)]]) == 0
    busy = result(AS_IS, 100)
    busy.add(4, Sample(1.0, [10.0] * 50))
    assert measure_unrest([[busy]]) == 0.5
