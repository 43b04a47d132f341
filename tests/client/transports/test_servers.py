from typing import Any

import pytest

from client import (
    DeadlineExceeded,
    DetectorError,
    InvalidImage,
    InvalidParameter,
    ServerError,
    ServerUnavailable,
)
from client.transports import servers
from client.transports.addresses import parse_addresses
from client.transports.servers import Server, Servers
from tests.client.transports.test_retries import Clock

AWAY = ServerUnavailable("away")
TRANSPORT: Any = None  # never used here


class Turns(Servers):
    """Servers a, b, c, or the first of them, under a clock of the test's."""

    def __init__(self, names: str) -> None:
        self.clock = Clock()
        urls = [f"{name}:1" for name in names]
        super().__init__(
            [Server(address, TRANSPORT) for address in parse_addresses(urls)], self.clock
        )

    def names(self, number: int, tried: str = "") -> str:
        """Return who gets the next requests."""
        before = {server for server in self.all if server.address.host in tried}
        return "".join(self.pick(before).address.host for _ in range(number))

    def fail(self, name: str, error: DetectorError = AWAY) -> None:
        self.failed(self.named(name), error)

    def named(self, name: str) -> Server:
        (server,) = (server for server in self.all if server.address.host == name)
        return server


def test_one_server_gets_all() -> None:
    turns = Turns("a")
    assert turns.names(3) == "aaa"
    turns.fail("a")
    assert turns.names(3, tried="a") == "aaa"


def test_each_gets_its_turn() -> None:
    assert Turns("abc").names(7) == "abcabca"


def test_a_server_that_is_away_is_left_out_for_a_while() -> None:
    turns = Turns("abc")
    turns.fail("b")
    assert "b" not in turns.names(10)
    turns.clock.now = servers.FIRST_OUT
    assert "b" in turns.names(3)


def test_one_request_finds_out_whether_it_is_back() -> None:
    turns = Turns("abc")
    turns.fail("b")
    turns.clock.now = servers.FIRST_OUT
    assert turns.names(30).count("b") == 1


def test_a_server_that_is_back_takes_its_turns_again() -> None:
    turns = Turns("ab")
    turns.fail("b")
    turns.answered(turns.named("b"))
    assert turns.names(4) == "abab"


def test_one_that_is_full_is_left_out_for_as_long_as_it_says_each_time() -> None:
    turns = Turns("ab")
    full = ServerUnavailable("full")
    full.retry_after = 0.25
    for _ in range(9):
        turns.fail("b", full)
        assert turns.names(4) == "aaaa"
        turns.clock.now += 0.25
        assert turns.names(4).count("b") == 2


def test_it_is_left_out_for_twice_as_long_each_time_up_to_a_limit() -> None:
    turns = Turns("ab")
    turns.fail("b")
    lengths = []
    for _ in range(8):
        lengths.append(turns.named("b").out_until - turns.clock.now)
        turns.clock.now = turns.named("b").out_until
        assert "b" in turns.names(2)
        turns.fail("b")
    assert lengths == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_server_that_is_away_for_ever_is_probed_for_ever() -> None:
    turns = Turns("ab")
    turns.fail("b")
    for _ in range(3000):
        turns.clock.now = turns.named("b").out_until
        assert "b" in turns.names(2)
    assert turns.named("b").out_until - turns.clock.now == servers.LONGEST_OUT


def test_many_requests_that_fail_together_count_once() -> None:
    turns = Turns("ab")
    for _ in range(20):
        turns.fail("b")
    assert turns.named("b").out_until == servers.FIRST_OUT


def test_a_request_goes_where_it_has_not_been() -> None:
    turns = Turns("abc")
    assert turns.names(3, tried="ab") == "ccc"
    turns.fail("c")
    assert turns.names(3, tried="ab") == "ccc"  # though it is left out
    assert set(turns.names(3, tried="abc")) == {"a", "b"}


def test_when_all_are_away_all_are_tried() -> None:
    turns = Turns("ab")
    turns.fail("a")
    turns.fail("b")
    assert turns.names(4) == "abab"


@pytest.mark.parametrize("error", [DeadlineExceeded("late"), ServerError("broken")])
def test_a_server_that_only_fails_is_left_out_too(error: DetectorError) -> None:
    turns = Turns("ab")
    turns.fail("b", error)
    turns.fail("b", error)
    assert "b" in turns.names(2)
    turns.fail("b", error)
    assert turns.names(4) == "aaaa"


def test_failures_with_answers_between_them_do_not_count() -> None:
    turns = Turns("ab")
    for _ in range(10):
        turns.fail("b", DeadlineExceeded("late"))
        turns.answered(turns.named("b"))
    assert "b" in turns.names(2)


@pytest.mark.parametrize("error", [InvalidImage("no image"), InvalidParameter("no number")])
def test_a_server_that_refuses_a_request_rightly_is_well(error: DetectorError) -> None:
    turns = Turns("ab")
    turns.fail("b")
    turns.fail("b", error)
    assert turns.names(4) == "abab"
