"""Where a window begins: at a release, whoever tells of it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from serving.errors import DriftError, UntoldError
from serving.history import Record
from serving.monitoring.prometheus import Prometheus
from serving.monitoring.window import Window, find_window, parse_seconds
from serving.repository import Repository, open_repository
from serving.store.address import open_store

HOUR = 3600


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", HOUR), ("7d", 7 * 24 * HOUR)]
)
def test_a_time(text: str, seconds: int) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1", "h", "0h", "-1h", "1.5h", "1h30m", "1 h", "1w", "9" * 20 + "d"]
)
def test_no_time(text: str) -> None:
    with pytest.raises(DriftError, match="--window must be such as 30m, 1h or 7d, found"):
        parse_seconds(text)


@pytest.fixture
def shipped(project_repository: Path) -> Repository:
    """The shipped repository, whose live version is 2."""
    return open_repository(open_store(str(project_repository)), "ensemble")


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat(timespec="seconds")


def find(
    url: str, namespace: str, repository: Repository, record: Record, most: int = HOUR
) -> Window:
    return find_window(Prometheus(url), f',namespace="{namespace}"', repository, record, most)


def test_nobody_tells(prometheus: str, shipped: Repository) -> None:
    assert find(prometheus, "none", shipped, Record()) == Window(2, 0, HOUR)


def test_the_repository_tells(prometheus: str, shipped: Repository) -> None:
    record = Record(since=ago(minutes=10))
    found = find(prometheus, "none", shipped, record)
    assert (found.live, found.canary) == (2, 0)
    assert found.seconds == pytest.approx(600, abs=60)
    assert find(prometheus, "none", shipped, record, most=60) == Window(2, 0, 60)
    later = Record(since=ago(minutes=-10))  # by a clock that goes wrong
    assert find(prometheus, "none", shipped, later).seconds == 0


def test_a_repository_of_before_tells_when_the_version_was_published(
    prometheus: str, shipped: Repository
) -> None:
    record = Record({1: {"published": ago(days=9)}, 2: {"published": ago(minutes=10)}})
    assert find(prometheus, "none", shipped, record).seconds == pytest.approx(600, abs=60)


@pytest.mark.parametrize("since", ["yesterday", "2026-01-01T00:00:00"])
def test_a_time_that_is_none(since: str, prometheus: str, shipped: Repository) -> None:
    assert find(prometheus, "none", shipped, Record(since=since)).seconds == HOUR


@pytest.mark.parametrize(
    ("namespace", "expected", "minutes"),
    [
        ("steady", (2, 0), 60),
        ("released", (2, 0), 19),  # on the last server
        ("canary", (2, 3), 9),
        ("canary ended", (2, 0), 9),
    ],
)
def test_servers_tell(
    namespace: str,
    expected: tuple[int, int],
    minutes: float,
    prometheus: str,
    shipped: Repository,
) -> None:
    found = find(prometheus, namespace, shipped, Record())
    assert (found.live, found.canary) == expected
    # Scrapes are a minute apart, and what one showed counts until the next.
    assert found.seconds == pytest.approx(60 * minutes, abs=30)


def test_the_later_of_both_counts(prometheus: str, shipped: Repository) -> None:
    record = Record(since=ago(minutes=5))
    assert find(prometheus, "released", shipped, record).seconds == pytest.approx(300, abs=60)


def test_servers_that_do_not_agree(prometheus: str, shipped: Repository) -> None:
    with pytest.raises(UntoldError, match="some servers serve version 1 and some 2: a release is"):
        find(prometheus, "torn", shipped, Record())
