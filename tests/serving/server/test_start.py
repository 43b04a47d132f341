"""The first inference of a server that says it is ready. Whole starts: test_server.py."""

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tritonclient.utils import InferenceServerException

from serving.errors import StartError
from serving.server import start
from serving.server.running import Running


def running(failures: int) -> Running:
    """A server whose first inferences fail."""
    left = [failures]

    def infer(model: str, seconds: float) -> None:
        if left[0]:
            left[0] -= 1
            raise InferenceServerException("Request for unknown model: 'ensemble' is not found")

    control: Any = SimpleNamespace(infer=infer)
    return cast(Running, SimpleNamespace(photo_models=lambda: ["ensemble"], control=control))


def test_one_failure_is_forgiven_because_somebody_may_be_publishing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(start, "CHECK_SECONDS", 0.0)
    assert start.infer_first(running(failures=1), math.inf, print) == ["ensemble"]


def test_a_failure_that_lasts_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "CHECK_SECONDS", 0.0)
    with pytest.raises(StartError, match="the first inference through ensemble failed: Request"):
        start.infer_first(running(failures=2), math.inf, print)
