"""What is judged, what is left out, and that nothing left out passes for all clear."""

import numpy as np
import pytest

from serving.monitoring.figures import make_samples
from serving.monitoring.histogram import Histogram
from serving.monitoring.judgement import Sample
from serving.monitoring.statistic import IMAGES, Statistic
from serving.monitoring.verdict import MOVED, SAME, UNTOLD, Samples, Verdict, judge_samples
from tests.serving.monitoring.past import EDGES, LABELS, draw_photos

REFERENCE = make_samples(draw_photos(0, 58))


def judged(live: Samples, reference: Samples = REFERENCE) -> Verdict:
    verdict = Verdict(version=2, seconds=3600)
    judge_samples(verdict, live, reference)
    return verdict


def test_nothing_counted() -> None:
    verdict = judged({})
    assert (verdict.word, verdict.images) == (UNTOLD, 0)
    assert verdict.doubts == ["not enough to tell: 0 images, 140 needed"]


def test_too_few_images_even_where_all_are_dark() -> None:
    verdict = judged(make_samples(draw_photos(1, 139, brightness=50)))
    assert (verdict.word, verdict.findings) == (UNTOLD, [])
    assert verdict.doubts == ["not enough to tell: 139 images, 140 needed"]


def test_the_same_photos() -> None:
    verdict = judged(make_samples(draw_photos(1, 400)))
    assert (verdict.word, verdict.doubts, verdict.moved) == (SAME, [], [])
    assert {each.statistic for each in verdict.findings} >= {
        Statistic(name) for name in ("image_bytes", "image_width_pixels", "image_sharpness")
    } | {Statistic("detections_per_image", label) for label in LABELS}


def test_dark_photos() -> None:
    verdict = judged(make_samples(draw_photos(1, 140, brightness=140)))
    assert verdict.word == MOVED
    assert [each.statistic for each in verdict.moved] == [IMAGES]


def test_scores_in_few_photos_are_not_judged_and_that_is_said() -> None:
    verdict = judged(make_samples(draw_photos(1, 140)))
    assert verdict.notes == ["too few to judge: score of Platelets, score of RBC, score of WBC"]
    assert verdict.word == SAME  # how many there are was judged


def test_detections_of_few_photos_are_a_doubt() -> None:
    live = make_samples(draw_photos(1, 400))
    counts = Statistic("detections_per_image", "RBC")
    verdict = judged({**live, counts: Sample(live[counts].values, 40)})
    assert verdict.doubts == ["too few to judge: RBC per image"]
    assert verdict.word == UNTOLD


def test_a_class_that_the_reference_never_saw() -> None:
    verdict = judged(make_samples(draw_photos(1, 400, labels=[*LABELS, "Basophil"])))
    assert verdict.doubts == [
        "the reference never saw the class Basophil, which is counted live",
    ]
    assert verdict.word == UNTOLD
    assert len(verdict.findings) > 5  # the others were judged


def test_a_class_that_is_served_no_more() -> None:
    verdict = judged(make_samples(draw_photos(1, 400, labels=LABELS[:2])))
    assert verdict.doubts == ["the class Platelets of the reference is not counted live any more"]
    assert verdict.word == UNTOLD


def test_a_class_of_which_the_validation_set_had_none() -> None:
    reference = {**REFERENCE, **make_samples(no_basophils(58))}
    few = judged(make_samples(draw_photos(1, 400) | no_basophils(400)), reference)
    assert "score of Basophil" in few.notes[0]
    assert few.word == SAME
    many = judged(make_samples(draw_photos(1, 400, labels=[*LABELS, "Basophil"])), reference)
    assert [str(each.statistic) for each in many.moved] == ["Basophil per image"]


def no_basophils(images: int) -> dict[Statistic, Histogram]:
    return {
        Statistic(name, "Basophil"): Histogram(EDGES[name], counts)
        for name, counts in (
            ("detections_per_image", np.array([images, *[0] * len(EDGES["detections_per_image"])])),
            ("detection_score", np.zeros(len(EDGES["detection_score"]) + 1)),
        )
    }


def test_a_statistic_that_is_measured_no_more() -> None:
    live = make_samples(draw_photos(1, 400))
    del live[Statistic("image_sharpness")]
    assert judged(live).doubts == ["Prometheus has no ssd_image_sharpness"]


def test_other_bins() -> None:
    live = make_samples(draw_photos(1, 400))
    shifted = live[IMAGES].values
    live[IMAGES] = live[IMAGES]._replace(values=Histogram(shifted.edges + 0.5, shifted.counts))
    verdict = judged(live)
    assert verdict.doubts == [
        "brightness is counted in other bins than the reference's: export the artifact again"
    ]
    assert verdict.word == UNTOLD


def test_a_reference_that_is_too_small() -> None:
    verdict = judged(make_samples(draw_photos(1, 4000)), make_samples(draw_photos(0, 20)))
    assert verdict.doubts == [
        "the reference of version 2 is too small to tell anything: it has 20 images; train with "
        "more in the val split"
    ]
    assert verdict.word == UNTOLD


@pytest.mark.parametrize("seed", range(5))
def test_drift_beside_doubt_is_drift(seed: int) -> None:
    live = make_samples(draw_photos(seed + 1, 400, brightness=130, labels=LABELS[:2]))
    verdict = judged(live)
    assert (verdict.word, len(verdict.doubts)) == (MOVED, 1)
