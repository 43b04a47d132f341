"""Eight clients, updates, broken ones and rollbacks: nobody notices, in either way.

With 20, 5 and 5 of them it takes longer, and runs as a benchmark: docs/releases.md has its figures.
"""

import pytest

from benchmarks.hot_update import Explicit, Settings, Watched, measure_way
from benchmarks.load.versions import MixtureError, version_of
from client import Box, Detection, Result

# Of the broken ones one is cut short, the other gives no numbers.
AS_A_TEST = Settings(updates=6, broken=2, rollbacks=2, private_server=False, pause=0.1)


@pytest.mark.parametrize("way", [Explicit, Watched])
def test_no_request_fails_and_none_is_answered_by_a_mixture(
    way: type[Explicit] | type[Watched],
) -> None:
    found = measure_way(way, AS_A_TEST)
    assert found["failures"] == []
    assert found["answered by a version that was not live any more"] == 0
    assert found["versions that answered"] == 1 + AS_A_TEST.updates
    assert found["requests"] > 1000
    counts = {kind: seconds["count"] for kind, seconds in found["seconds"].items()}
    assert counts == {"update": 6, "broken": 2, "rollback": 2}


def test_a_mixture_would_show() -> None:
    score_of_3, box_of_4 = 0.53, Box(0.04 * 64, 6.4, 57.6, 57.6)
    found = Detection("RBC", 0, score_of_3, box_of_4)
    with pytest.raises(MixtureError, match="the score is that of version 3, the box of 4"):
        version_of(Result((found,), width=64, height=64))
