"""Pauses grow up to a limit, and begin anew."""

from serving.backoff import Backoff


def test_no_pause_at_first_then_longer_ones() -> None:
    backoff = Backoff(longest=10)
    pauses = [backoff.pause() for _ in range(8)]
    assert pauses[0] == 0
    for pause, most in zip(pauses[1:], [1, 2, 4, 8, 10, 10, 10], strict=True):
        assert most / 2 <= pause <= most


def test_chance_keeps_many_apart() -> None:
    rows = [Backoff(longest=10) for _ in range(20)]
    assert len({[row.pause() for _ in range(3)][2] for row in rows}) > 10


def test_after_success_there_is_none_again() -> None:
    backoff = Backoff(longest=10)
    for _ in range(5):
        backoff.pause()
    backoff.reset()
    assert backoff.pause() == 0
    assert backoff.pause() <= 1
