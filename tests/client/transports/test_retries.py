from collections.abc import Callable

import pytest

from client.transports import retries
from client.transports.retries import Budget, Retries


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
