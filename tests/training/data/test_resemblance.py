"""What looks alike, measured on photos; and what does not, though it is nearly empty."""

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data import decoding, resemblance


def _rectangle(x: int, y: int) -> np.ndarray:
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[y : y + 30, x : x + 40] = 255
    return picture


def test_nothing_to_compare() -> None:
    look = resemblance.look(_rectangle(10, 10))
    assert resemblance.most_alike([], [look]) == []
    assert resemblance.most_alike([look], []) == [None]


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_flat_picture_is_like_no_other(grey: int) -> None:
    look = resemblance.look(np.full((50, 70, 3), grey, np.uint8))
    assert look == b""
    assert resemblance.most_alike([look], [look]) == [None]


def test_small_things_on_an_empty_ground_are_told_apart() -> None:
    looks = [resemblance.look(_rectangle(x, y)) for x, y in ((10, 10), (90, 20), (40, 80))]
    assert resemblance.most_alike(looks[:1], looks[1:]) == [None]
    assert resemblance.most_alike(looks[:1], looks) == [0]


def _altered(picture: np.ndarray) -> list[np.ndarray]:
    """At half the size, at JPEG quality 60, brighter."""
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    return [
        cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        cv2.imdecode(encoded, cv2.IMREAD_COLOR),
        cv2.convertScaleAbs(picture, alpha=1.15, beta=10),
    ]


def test_a_photo_saved_anew(smear: Path) -> None:
    picture = decoding.decode(smear.read_bytes())[0]
    looks = [resemblance.look(each) for each in _altered(picture)]
    assert resemblance.most_alike(looks, [resemblance.look(picture)]) == [0, 0, 0]
    others = [smear.with_name(f"smear-{number}.jpg").read_bytes() for number in (2, 3)]
    looks = [decoding.decode(encoded)[1].look for encoded in others]
    assert resemblance.most_alike(looks, [resemblance.look(picture)]) == [None, None]


@pytest.mark.parametrize(
    ("folder", "alike"),
    [
        ("bccd/JPEGImages", {("BloodImage_00037", "BloodImage_00038")}),
        (
            "raccoon/images",
            {
                ("raccoon-11", "raccoon-116"),
                ("raccoon-120", "raccoon-83"),
                ("raccoon-21", "raccoon-45"),
                ("raccoon-50", "raccoon-52"),
                ("raccoon-50", "raccoon-74"),
                ("raccoon-51", "raccoon-85"),
                ("raccoon-52", "raccoon-74"),
                ("raccoon-65", "raccoon-98"),
            },
        ),
    ],
)
def test_no_false_alarm_among_real_photos(
    test_data: Path, folder: str, alike: set[tuple[str, str]]
) -> None:
    """A person has looked at these pairs: each is one scene."""
    paths = sorted((test_data / "data" / folder).iterdir())
    looks = {path.stem: decoding.decode(path.read_bytes())[1].look for path in paths}
    units = {name: resemblance.unit_slopes(look) for name, look in looks.items()}
    found = {
        pair
        for pair in combinations(looks, 2)
        if units[pair[0]] @ units[pair[1]] >= resemblance.ALIKE
    }
    assert found == alike
