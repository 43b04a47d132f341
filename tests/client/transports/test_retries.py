from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from client.transports import retries
from client.transports.retries import Budget, Retries, read_hint


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def always(number: float) -> Callable[[], float]:
    return lambda: number


def spent(budget: Budget) -> int:
    """Take all retries that there are."""
    number = 0
    while budget.spend():
        number += 1
    return number


# The budget.


def test_it_begins_with_the_reserve_and_ends() -> None:
    budget = Budget(Clock())
    assert spent(budget) == retries.RESERVE
    assert not budget.spend()


def test_ten_answers_pay_for_one_retry() -> None:
    budget = Budget(Clock())
    spent(budget)
    for _ in range(100):
        budget.earn()
    assert spent(budget) == pytest.approx(10, abs=1)


def test_a_second_pays_for_one_retry() -> None:
    clock = Clock()
    budget = Budget(clock)
    spent(budget)
    clock.now = 7.0
    assert spent(budget) == 7


def test_no_more_than_the_reserve_is_ever_saved() -> None:
    clock = Clock()
    budget = Budget(clock)
    for _ in range(10_000):
        budget.earn()
    clock.now = 10_000.0
    assert spent(budget) == retries.RESERVE


def test_an_outage_under_load_is_not_answered_by_a_storm() -> None:
    """10,000 requests in 100 s that all fail: without a budget they would be 40,000 tries."""
    clock = Clock()
    policy = Retries(3, Budget(clock), always(0.5))
    tries = 0
    for number in range(10_000):
        clock.now = number / 100
        failed = 1
        while policy.pause(failed, 30, elsewhere=False) is not None:
            failed += 1
        tries += failed
    assert tries <= 10_000 + retries.RESERVE + 100 * retries.PER_SECOND


def test_lasting_overload_is_retried_by_a_tenth_at_most() -> None:
    """Half of the requests are refused: the budget follows those that are answered."""
    budget = Budget(Clock())
    spent(budget)
    again = 0
    for _ in range(1000):
        budget.earn()
        again += budget.spend()
    assert again == pytest.approx(1000 * retries.PER_SUCCESS, abs=1)


# The pauses.


def test_the_bound_doubles_up_to_the_longest() -> None:
    policy = Retries(100, Budget(Clock()), always(1.0))
    pauses = [policy.pause(tries, 100, elsewhere=False) for tries in range(1, 9)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


def test_any_number_of_tries_has_a_bound() -> None:
    assert Retries(10_000, Budget(Clock()), always(1.0)).pause(5000, 100, elsewhere=False) == 2.0


def test_a_pause_is_drawn_from_zero_to_the_bound() -> None:
    drawn = iter([0.0, 0.25, 1.0])
    policy = Retries(3, Budget(Clock()), lambda: next(drawn))
    assert [policy.pause(3, 100, elsewhere=False) for _ in range(3)] == [0.0, 0.1, 0.4]


def test_another_server_is_tried_at_once() -> None:
    assert Retries(3, Budget(Clock()), always(1.0)).pause(1, 100, elsewhere=True) == 0


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_there_is_a_limit_of_tries(limit: int) -> None:
    policy = Retries(limit, Budget(Clock()), always(0.0))
    tries = 1
    while policy.pause(tries, 100, elsewhere=True) is not None:
        tries += 1
    assert tries == limit + 1


def test_no_pause_goes_beyond_the_deadline() -> None:
    policy = Retries(3, Budget(Clock()), always(1.0))
    assert policy.pause(3, 0.41, elsewhere=False) == 0.4
    assert policy.pause(3, 0.4, elsewhere=False) is None
    assert policy.pause(1, 0.0, elsewhere=True) is None


def test_a_retry_that_is_not_made_costs_nothing() -> None:
    budget = Budget(Clock())
    policy = Retries(3, budget, always(1.0))
    assert policy.pause(4, 100, elsewhere=False) is None
    assert policy.pause(1, 0.0, elsewhere=False) is None
    assert spent(budget) == retries.RESERVE


# What a server says of when to come again.


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"grpc-retry-pushback-ms": "1500"}, 1.5),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0"}, 0.0),
        ({"grpc-retry-pushback-ms": "-1"}, None),
        ({"grpc-retry-pushback-ms": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "3600"}, 3600.0),
        ({"retry-after": "3601"}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"grpc-retry-pushback-ms": "9" * 5000}, None),
        ({"retry-after": f"Sun, 06 Nov {'9' * 5000} 08:49:37 GMT"}, None),
        ({"retry-after": f"Sun, 06 Nov {'9' * 20} 08:49:37 GMT"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, None),
        ({"retry-after": "Sun, 06 Nov 9999 08:49:37 GMT"}, None),
        ({"retry-after": "Sun, 99 Nov 2099 99:99:99 GMT"}, None),
        ({"retry-after": "Sun, 06 Nov 0 08:49:37 GMT"}, None),
    ],
)
def test_a_hint_is_seconds_within_reason(headers: dict[str, str], seconds: float | None) -> None:
    assert read_hint(headers) == seconds


def test_a_hint_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert read_hint({"retry-after": date}) == pytest.approx(59, abs=10)


def test_nobody_comes_before_the_hint_and_all_at_different_moments() -> None:
    policy = Retries(9, Budget(Clock()))
    pauses = [policy.pause(1, 100, elsewhere=False, hint=3.0) for _ in range(20)]
    assert all(pause is not None and 3.0 <= pause <= 6.0 for pause in pauses)
    assert len(set(pauses)) == 20


def test_after_a_short_hint_the_pauses_grow_as_without() -> None:
    policy = Retries(100, Budget(Clock()), always(1.0))
    pauses = [policy.pause(tries, 100, elsewhere=False, hint=0.0) for tries in range(1, 9)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


def test_a_hint_is_one_servers_own() -> None:
    policy = Retries(3, Budget(Clock()), always(1.0))
    assert policy.pause(1, 100, elsewhere=True, hint=50.0) == 0


def test_a_hint_beyond_the_deadline_ends_the_tries() -> None:
    assert Retries(3, Budget(Clock()), always(0.0)).pause(1, 2.0, elsewhere=False, hint=2.0) is None


def test_bulk_work_comes_as_often_as_it_is_told_to() -> None:
    budget = Budget(Clock())
    spent(budget)
    policy = Retries(0, budget, always(0.0), bulk=True)
    assert policy.pause(1000, 100, elsewhere=False, hint=3.0) == 3.0
    assert policy.pause(1000, 2, elsewhere=False, hint=3.0) is None
    assert policy.pause(1, 100, elsewhere=False) is None
