"""What a canary's configuration says of it."""

import pytest

from client import canary
from client.canary import Canary
from tests.client.canary.names import ALL


def test_version_and_share_are_read() -> None:
    found = canary.read_canary("ensemble", {"canary_version": "7", "canary_share": "0.1"})
    assert found == Canary("ensemble", "7", 0.1)


@pytest.mark.parametrize(
    "changes",
    [{"canary_share": share} for share in ("", "abc", "2.0", "-0.1", "nan", "inf", "10%")]
    + [{"canary_version": version} for version in ("", "0", "-1", "seven", "7.0")],
)
def test_parameters_that_make_no_sense_are_no_canary(changes: dict[str, str]) -> None:
    assert canary.read_canary("ensemble", {**ALL, **changes}) is None


def test_missing_parameters_are_no_canary() -> None:
    assert canary.read_canary("ensemble", {}) is None
