"""A verdict as people and programs read it."""

import json

from serving.monitoring.figures import make_samples
from serving.monitoring.statistic import PER_IMAGE, Statistic
from serving.monitoring.verdict import Verdict, judge_samples
from serving.monitoring.words import format_json, format_words
from tests.serving.monitoring.past import draw_photos


def test_nothing_known() -> None:
    verdict = Verdict(doubts=["version 3 has no reference"])
    assert format_words(verdict) == (
        "cannot tell: nothing was compared\n  untold  version 3 has no reference"
    )
    assert json.loads(format_json(verdict)) == {
        "verdict": "cannot tell",
        "version": None,
        "window_seconds": 0,
        "images": 0,
        "images_needed": None,
        "doubts": ["version 3 has no reference"],
        "notes": [],
        "statistics": [],
    }


def judged(brightness: float) -> Verdict:
    verdict = Verdict(version=2, seconds=5400)
    live, reference = draw_photos(1, 400, brightness), draw_photos(0, 58)
    judge_samples(verdict, make_samples(live), make_samples(reference))
    return verdict


def test_what_moved_and_by_how_much() -> None:
    head, moved, note, same = format_words(judged(140)).splitlines()
    assert head == "drift: 400 images in 1:30:00, beside the reference of version 2"
    assert moved.startswith("  moved   brightness: median 171 (8 of 10 in ")
    assert " -> 139 (" in moved
    assert moved.endswith("), D = 0.81, adjusted p = 6e-36")
    assert note == "  note    too few to judge: score of Platelets, score of WBC"
    assert same.startswith("  same    8 statistics, the largest D 0.")


def test_nothing_moved() -> None:
    words = format_words(judged(172))
    assert words.startswith("no drift: 400 images")
    assert "moved" not in words


def test_counts_are_told_by_their_mean() -> None:
    live, reference = draw_photos(1, 400), draw_photos(0, 58)
    live[Statistic(PER_IMAGE, "Platelets")] = live[Statistic(PER_IMAGE, "RBC")]
    verdict = Verdict(version=2, seconds=60)
    judge_samples(verdict, make_samples(live), make_samples(reference))
    assert "  moved   Platelets per image: mean 1.6 -> 11.9, D = 0.9" in format_words(verdict)


def test_what_cannot_be_chance_has_a_p_of_no_digits() -> None:
    words = format_words(judged(20))
    assert ", D = 1.00, adjusted p < 1e-99\n" in words


def test_thousands_are_told_in_full() -> None:
    assert "bytes: median 20," in format_json(judged(140))


def test_json_has_all_of_it() -> None:
    found = json.loads(format_json(judged(140)))
    assert (found["verdict"], found["version"], found["images_needed"]) == ("drift", 2, 140)
    first = found["statistics"][0]
    assert (first["statistic"], first["label"], first["moved"]) == ("image_brightness", "", True)
    assert first["words"].startswith("brightness: median 171")
    assert sum(first["live"]["counts"]) == first["live"]["values"] == 400
    assert len(first["reference"]["counts"]) == len(first["reference"]["edges"]) + 1
