"""The reference of a version, and what a real Prometheus counted."""

from typing import Any

import numpy as np
import pytest

from serving.errors import DriftError, UntoldError
from serving.history import Record
from serving.monitoring.figures import read_live, read_reference
from serving.monitoring.histogram import Histogram, measure_distance
from serving.monitoring.prometheus import Prometheus
from serving.monitoring.statistic import IMAGES, PER_IMAGE, SCORE, Statistic
from tests.serving.monitoring.past import draw_photos, reference_of

HOUR = 3600


def recorded(reference: Any) -> Record:
    return Record({2: {"reference": reference}})


def test_a_reference() -> None:
    drawn = draw_photos(0, 58)
    found = read_reference(recorded(reference_of(drawn)), 2)
    assert (found.images, found.thresholds) == (58, {"score_threshold": 0.5, "iou_threshold": 0.45})
    assert found.samples.keys() == drawn.keys()
    assert found.samples[IMAGES].size == found.samples[IMAGES].values.total == 58
    scores = found.samples[Statistic(SCORE, "RBC")]
    assert scores.size < 58 < scores.values.total  # of one photo they are worth one


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (Record(), "version 2 has no reference: it was copied in by hand"),
        (Record({2: {"by": "me"}}), "version 2 has no reference: its artifact is of before"),
        (recorded(None), "its artifact is of before; export it again"),
    ],
)
def test_no_reference(record: Record, words: str) -> None:
    with pytest.raises(UntoldError, match=words):
        read_reference(record, 2)


@pytest.mark.parametrize(
    "damage",
    [
        [],
        "x",
        {"images": "many"},
        {"score_threshold": None},
        {"statistics": {}},
        {"statistics": []},
        {"statistics": {"image_brightness": {"edges": [1], "counts": [1]}}},
    ],
)
def test_a_damaged_reference(damage: Any) -> None:
    reference = reference_of(draw_photos(0, 58), **damage) if isinstance(damage, dict) else damage
    with pytest.raises(DriftError, match=r"the reference of version 2 in releases\.json is dam"):
        read_reference(recorded(reference), 2)


@pytest.mark.parametrize(
    ("edges", "counts"),
    [([1, 2], [1, 1]), ([2, 1], [1, 1, 1]), ([1, 2], [1, -1, 1]), ([], [1]), ([1], ["x", 2])],
)
def test_what_is_no_histogram(edges: list[float], counts: list[Any]) -> None:
    reference = reference_of(draw_photos(0, 58))
    reference["statistics"]["image_bytes"] = {"edges": edges, "counts": counts}
    with pytest.raises(DriftError, match="is damaged"):
        read_reference(recorded(reference), 2)


def test_nothing_was_counted(prometheus: str) -> None:
    assert read_live(Prometheus(prometheus), 'namespace="none"', HOUR) == {}


def test_all_servers_together(prometheus: str) -> None:
    live = read_live(Prometheus(prometheus), 'namespace="same"', HOUR)
    drawn = [draw_photos(1, 300), draw_photos(2, 100)]
    assert live.keys() == drawn[0].keys()
    assert live[IMAGES].size == pytest.approx(400, abs=10)
    assert live[IMAGES].size == int(live[IMAGES].size)  # not a fraction of an image
    for statistic, found in live.items():
        both = [each[statistic] for each in drawn]
        expected = Histogram(both[0].edges, both[0].counts + both[1].counts)
        assert found.values.total == pytest.approx(expected.total, rel=0.03)
        assert measure_distance(found.values, expected) < 0.03, statistic


def test_one_of_the_servers(prometheus: str) -> None:
    labels = 'namespace="same",server="2"'
    live = read_live(Prometheus(prometheus), labels, HOUR)
    assert live[Statistic(PER_IMAGE, "RBC")].size == pytest.approx(100, abs=5)


def test_never_more_than_there_were(prometheus: str) -> None:
    """`increase` over 5 minutes of scrapes a minute apart says a quarter more than it saw."""
    server = Prometheus(prometheus)
    (stretched,) = server.query('increase(ssd_image_brightness_count{namespace="dark"}[5m])')
    live = read_live(server, 'namespace="dark"', 300)
    assert np.floor(stretched.value) > live[IMAGES].size
    assert live[IMAGES].size <= 400 / 12
