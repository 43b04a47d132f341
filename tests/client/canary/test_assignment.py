"""Which keys a canary takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import canary
from client.canary import Canary
from tests.client.canary.names import at
from tests.conftest import PROJECT

PAGE = PROJECT / "docs" / "client.md"
keys = st.text()
shares = st.floats(0, 1)


@given(keys)
def test_a_share_of_0_takes_none_and_of_1_all(key: str) -> None:
    assert not at(0).takes(key)
    assert at(1).takes(key)


@given(keys, shares, shares)
def test_a_larger_share_only_adds_keys(key: str, one: float, other: float) -> None:
    smaller, larger = sorted((one, other))
    assert at(larger).takes(key) or not at(smaller).takes(key)


@given(keys, shares)
def test_a_key_keeps_its_side(key: str, share: float) -> None:
    assert at(share).takes(key) == at(share).takes(key)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_share_is_that_of_the_keys(share: float) -> None:
    taken = sum(at(share).takes(f"camera {number}") for number in range(10_000))
    assert taken == pytest.approx(10_000 * share, abs=4 * (10_000 * share * (1 - share)) ** 0.5)


def test_another_version_or_model_draws_anew() -> None:
    names = [f"camera {number}" for number in range(1000)]
    for other in (at(0.5, "8"), Canary("potholes", "7", 0.5)):
        both = sum(at(0.5).takes(name) and other.takes(name) for name in names)
        assert 190 < both < 310


def test_the_numbers_are_those_of_the_formula() -> None:
    # printf 'ensemble:7:camera 7' | sha256sum | cut -c1-16
    assert canary.position("ensemble", "7", "camera 7") == 0xE0B807E00D675F20
    assert canary.position("ensemble", "7", "K\u00fcche") == 0x8671FABEFA7DA44B
    assert f"u = {canary.position('ensemble', '7', 'camera 7') / 2**64:.4f}" in PAGE.read_text()


def test_a_file_name_of_any_bytes_is_a_key() -> None:
    assert at(1).takes("caf\udce9.jpg")
