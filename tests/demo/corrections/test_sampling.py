"""What the page keeps of photos that the model is unsure of; visitors hear of no failures."""

import logging
from pathlib import Path

import pytest

from client import Box, Detection, Result
from client.inbox.inbox import Inbox
from client.inbox.samples import Samples
from demo.corrections.sampling import keep_unsure
from demo.photos import Found
from tests.demo.corrections.test_folder import HEIGHT, WIDTH, encoded

UNSURE = Result((Detection("RBC", 0, 0.6, Box(10, 5, 30, 25)),), WIDTH, HEIGHT)


def test_what_failed_or_has_gone_is_passed_over_and_the_rest_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = Samples(Inbox(tmp_path / "inbox"), 9)
    (tmp_path / "photo.png").write_bytes(encoded())
    gone, there = (str(tmp_path / name) for name in ("gone.png", "photo.png"))
    with caplog.at_level(logging.ERROR):
        keep_unsure(samples, [])
        found = [Found(gone, None), Found(gone, UNSURE), Found(there, UNSURE, "ensemble: ssd 3")]
        keep_unsure(samples, found)
    (name,) = samples.inbox.samples()
    assert (
        "ensemble: ssd 3"
        in (tmp_path / "inbox" / samples.inbox.proposals.annotation(name)).read_text()
    )
    assert len(caplog.records) == 1
