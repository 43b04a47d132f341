"""Only what neither answers nor works, or works beyond all reason, hangs."""

import time
from itertools import chain, repeat

import pytest

from serving.server import vigil
from serving.server.vigil import Sign, Vigil


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vigil, "PATIENCE", 0.05)


def verdicts(*signs: Sign) -> list[bool]:
    """What is thought after each further sign; the last one stays."""
    seen = chain(signs, repeat(signs[-1]))
    watched = Vigil(lambda: next(seen), lambda: None)
    found = []
    for _ in range(len(signs) + 4):
        time.sleep(0.03)
        found.append(watched.hangs())
    return found


def test_what_waits_for_ever_hangs() -> None:
    assert verdicts(Sign(False, 7, 1.0)) == [False, False, True, True, True]


def test_what_loops_for_ever_hangs() -> None:
    assert verdicts(Sign(False, 7, 1.0), Sign(False, 7, 31.5))[-1]


def test_what_answers_does_not() -> None:
    assert not any(verdicts(Sign(False, 7, 1.0), Sign(True, 7, 1.0)))


def test_what_works_does_not() -> None:
    """One request may take long on a machine that has much else to do."""
    assert not any(verdicts(Sign(False, 7, 1.0), Sign(False, 7, 2.0)))


def test_what_finishes_others_requests_does_not() -> None:
    assert not any(verdicts(*(Sign(False, number, 1.0) for number in range(12)))[:11])


def test_a_machine_that_stood_still_is_no_reason() -> None:
    watched = Vigil(lambda: Sign(False, 7, 1.0), lambda: None)
    time.sleep(0.2)
    assert [watched.hangs() for _ in range(3)] == [False, False, True]
