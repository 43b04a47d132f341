"""What is proposed, by whom it is accepted or refused, and that nobody's work is lost."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client import Box, Detection, Result
from client.inbox.photo import image_id
from client.inbox.samples import Samples
from demo.corrections.boxes import CorrectedBox, CorrectionError
from demo.corrections.editor import Opened, decide, proposal_to_review
from demo.corrections.folder import Corrections
from demo.corrections.people import OWNER, Person
from demo.corrections.review import Case, ChangedError, Review
from tests.conftest import PROJECT
from tests.demo.corrections.test_folder import (
    BOX,
    HEIGHT,
    LABELS,
    WIDTH,
    encoded,
    files,
    folder_of,
    read,
)

ANN = Person("ann", may_review=True)
BEN = Person("ben", may_review=True)
VISITOR = Person("visitor 1")
OTHER = Person("visitor 2")
VERSION = "ensemble: preprocess 1, ssd 3, postprocess 1"


@pytest.fixture
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Corrections:
    if getattr(request, "param", "folder") == "bucket":
        return Corrections(request.getfixturevalue("s3"), LABELS)
    return Corrections(tmp_path / "corrections", LABELS)


# What nobody may lose, wherever the inbox lies.
IN_BOTH = pytest.mark.parametrize("kept", ["folder", "bucket"], indirect=True)


@pytest.fixture
def review(kept: Corrections) -> Review:
    return Review(kept)


def boxes(*labels: str) -> list[dict[str, Any]]:
    return [BOX | {"label": label} for label in labels]


def open_only(review: Review, by: Person) -> Case:
    (name,) = review.list_names(by)
    case = review.open_case(name)
    assert case
    return case


def counting(kept: Corrections) -> list[tuple[str, ...]]:
    found = [kept.read_accepted(name) for name in files_that_count(kept)]
    return [tuple(box.label for box in each.boxes) for each in found if each]


def files_that_count(kept: Corrections) -> list[str]:
    return kept.inbox.accepted.names()


# ---------------------------------------------------------------- proposed, accepted, refused


def test_nothing_waits_at_first(review: Review) -> None:
    assert review.list_names(ANN) == []


def test_what_a_visitor_saves_does_not_count_until_somebody_else_accepts_it(
    kept: Corrections, review: Review
) -> None:
    saved = kept.save(encoded(), boxes("RBC"), VISITOR, kept.open(encoded(), VISITOR), VERSION)
    assert saved.state == "proposed"
    assert files_that_count(kept) == []
    assert review.list_names(VISITOR) == []
    case = open_only(review, ANN)
    assert case.proposal.boxes == (CorrectedBox("RBC", 10, 5, 30, 25),)
    assert (case.proposal.author, case.proposal.source["version"]) == ("visitor 1", VERSION)
    assert review.accept(case, boxes("RBC"), ANN) == 1
    assert [each.labels for each in read(kept)] == [("RBC",)]
    assert read(kept)[0].image_path.read_bytes() == encoded()
    assert review.list_names(ANN) == []
    assert list((folder_of(kept) / "proposals").glob("*/*")) == []
    (line,) = review.tell_history(image_id(encoded()))
    assert "visitor 1: 1 box; accepted by ann 20" in line
    assert f"answered by {VERSION}; these count" in line


def test_a_reviewer_may_change_what_is_accepted(kept: Corrections, review: Review) -> None:
    kept.save(encoded(), boxes("RBC"), VISITOR)
    review.accept(open_only(review, ANN), boxes("WBC", "WBC"), ANN)
    assert counting(kept) == [("WBC", "WBC")]
    accepted, proposed = review.tell_history(image_id(encoded()))
    assert "visitor 1: 2 boxes; accepted by ann 20" in accepted
    assert accepted.endswith("changed by ann; these count")
    assert "visitor 1: 1 box; accepted by ann 20" in proposed
    assert proposed.endswith("as it was proposed")


@IN_BOTH
def test_what_is_refused_goes_with_its_photo_and_stays_in_the_history(
    kept: Corrections, review: Review
) -> None:
    kept.save(encoded(), boxes("RBC"), VISITOR)
    review.refuse(open_only(review, ANN), ANN)
    assert files(kept) == []
    (line,) = review.tell_history(image_id(encoded()))
    assert "visitor 1: 1 box; refused by ann 20" in line


def test_nobody_accepts_or_refuses_what_they_proposed(kept: Corrections, review: Review) -> None:
    kept.save(encoded(), boxes("RBC"), ANN)
    assert review.list_names(ANN) == []
    case = open_only(review, BEN)
    with pytest.raises(CorrectionError, match="somebody else has to accept it"):
        review.accept(case, boxes("RBC"), ANN)
    with pytest.raises(CorrectionError, match="somebody else has to accept it"):
        review.refuse(case, ANN)
    assert files_that_count(kept) == []


def test_who_is_no_reviewer_decides_nothing(kept: Corrections, review: Review) -> None:
    kept.save(encoded(), boxes("RBC"), VISITOR)
    opened = Opened("it", Path(), case=open_only(review, ANN))
    for did in ("accept", "refuse"):
        sent = {"image": "it", "did": did, "boxes": boxes("RBC")}
        _, told = decide(review, sent, opened, OTHER)
        assert told["notice"]["text"] == "Only reviewers decide about proposals."
    assert files_that_count(kept) == []
    assert len(review.list_names(ANN)) == 1


def test_an_owner_needs_no_second_pair_of_eyes(kept: Corrections, review: Review) -> None:
    assert kept.save(encoded(), boxes("RBC"), OWNER).state == "accepted"
    assert counting(kept) == [("RBC",)]
    assert review.list_names(OWNER) == []


# ---------------------------------------------------------------- nobody's work is overwritten


@IN_BOTH
def test_proposals_of_several_people_lie_beside_each_other(
    kept: Corrections, review: Review
) -> None:
    for label, person in (("RBC", VISITOR), ("WBC", OTHER)):
        kept.save(encoded(), boxes(label), person, kept.open(encoded(), person))
    assert len(review.list_names(ANN)) == 2
    first = review.open_case(review.list_names(ANN)[0])
    assert first
    review.accept(first, boxes("RBC"), ANN)
    second = open_only(review, ANN)
    assert second.proposal.boxes[0].label == "WBC"
    assert second.counting == (CorrectedBox("RBC", 10, 5, 30, 25),)


def test_ones_own_proposal_is_gone_on_with(kept: Corrections, review: Review) -> None:
    saved = kept.save(encoded(), boxes("RBC"), VISITOR, kept.open(encoded(), VISITOR))
    kept.save(encoded(), boxes("RBC", "WBC"), VISITOR, saved.draft)
    again = kept.open(encoded(), VISITOR)
    assert again.boxes
    kept.save(encoded(), boxes("WBC"), VISITOR, again)
    assert [box.label for box in open_only(review, ANN).proposal.boxes] == ["WBC"]


@IN_BOTH
def test_two_people_with_one_login_keep_both(kept: Corrections, review: Review) -> None:
    kept.save(encoded(), boxes("RBC"), VISITOR, kept.open(encoded(), VISITOR))
    one, other = kept.open(encoded(), VISITOR), kept.open(encoded(), VISITOR)
    kept.save(encoded(), boxes("WBC"), VISITOR, one)
    kept.save(encoded(), boxes("Platelets"), VISITOR, other)
    cases = [review.open_case(name) for name in review.list_names(ANN)]
    assert sorted(case.proposal.boxes[0].label for case in cases if case) == ["Platelets", "WBC"]


@IN_BOTH
def test_what_was_accepted_meanwhile_is_not_overwritten_by_an_owner(
    kept: Corrections, review: Review
) -> None:
    one, other = kept.open(encoded()), kept.open(encoded())
    assert kept.save(encoded(), boxes("RBC"), OWNER, one).state == "accepted"
    assert kept.save(encoded(), boxes("WBC"), OWNER, other).state == "beside"
    assert counting(kept) == [("RBC",)]
    case = open_only(review, OWNER)
    assert case.counting == (CorrectedBox("RBC", 10, 5, 30, 25),)
    review.accept(case, boxes("WBC"), OWNER)
    assert counting(kept) == [("WBC",)]
    assert "1 box; accepted by owner" in review.tell_history(image_id(encoded()))[-1]
    assert "others count since" in str(review.tell_history(image_id(encoded())))


@IN_BOTH
def test_a_reviewer_sees_what_another_has_accepted_meanwhile(
    kept: Corrections, review: Review
) -> None:
    for label, person in (("RBC", VISITOR), ("WBC", OTHER)):
        kept.save(encoded(), boxes(label), person)
    one, other = (review.open_case(name) for name in review.list_names(ANN))
    assert one
    assert other
    review.accept(one, boxes("RBC"), ANN)
    opened = Opened("it", Path(), case=other)
    sent = {"image": "it", "did": "accept", "boxes": boxes("WBC")}
    opened_again, told = decide(review, sent, opened, BEN)
    assert "Accept again, and yours take their place" in told["notice"]["text"]
    assert [box["label"] for box in told["counting"]] == ["RBC"]
    assert counting(kept) == [("RBC",)]
    decide(review, sent, opened_again, BEN)
    assert counting(kept) == [("WBC",)]


@IN_BOTH
def test_a_proposal_that_its_author_changes_under_review_is_not_accepted_unseen(
    kept: Corrections, review: Review
) -> None:
    saved = kept.save(encoded(), boxes("RBC"), VISITOR)
    case = open_only(review, ANN)
    kept.save(encoded(), boxes("WBC"), VISITOR, saved.draft)
    for _ in range(2):
        with pytest.raises(ChangedError, match="has changed it since you opened it"):
            review.accept(case, boxes("RBC"), ANN)
    review.refuse(open_only(review, ANN), ANN)
    with pytest.raises(ChangedError, match="has decided about this proposal meanwhile"):
        review.accept(case, boxes("RBC"), ANN)
    assert files_that_count(kept) == []


# ---------------------------------------------------------------- what a model is unsure of


def unsure(score: float) -> Result:
    return Result((Detection("RBC", 0, score, Box(10, 5, 30, 25)),), WIDTH, HEIGHT)


@IN_BOTH
def test_samples_come_after_people_and_wait_for_good_once_opened(
    kept: Corrections, review: Review
) -> None:
    samples = Samples(kept.inbox, 2)
    for seed, score in ((1, 0.6), (2, 0.55)):
        assert samples.offer(encoded(seed=seed), unsure(score), lambda: VERSION)
    kept.save(encoded(), boxes("RBC"), VISITOR)
    people, first, last = review.list_names(ANN)
    assert (first[-6:], last[-6:]) == ("000810", "000640")
    case = review.open_case(last)
    assert case
    assert (case.proposal.author, case.proposal.source["uncertainty"]) == ("service", "0.6400")
    for seed in (3, 4):
        assert samples.offer(encoded(seed=seed), unsure(0.5), lambda: VERSION)
    assert case.proposal.name in review.list_names(ANN)
    assert first not in review.list_names(ANN)
    assert people in review.list_names(ANN)
    review.accept(case, boxes("WBC"), ANN)
    assert counting(kept) == [("WBC",)]


def test_a_persons_boxes_take_the_place_of_a_models(kept: Corrections, review: Review) -> None:
    for person in (VISITOR, OWNER):
        photo = encoded(seed=person is OWNER)
        assert Samples(kept.inbox, 9).offer(photo, unsure(0.6), str)
        kept.save(photo, boxes("RBC"), person)
    assert [case.proposal.author for case in [open_only(review, ANN)]] == ["visitor 1"]


# ---------------------------------------------------------------- what goes wrong


def test_hostile_decisions_get_a_sentence(kept: Corrections, review: Review) -> None:
    kept.save(encoded(), boxes("RBC"), VISITOR)
    opened = Opened("it", Path(), case=open_only(review, ANN))
    hostile: list[dict[str, Any]] = [
        {},
        {"image": "other", "did": "accept", "boxes": []},
        {"image": "it", "did": "remove"},
        {"image": "it", "did": "accept", "boxes": None},
        {"image": "it", "did": "accept", "boxes": boxes("cat")},
        {"image": "it", "did": "accept", "boxes": [BOX | {"x2": 61}]},
    ]
    for sent in hostile:
        _, told = decide(review, sent, opened, ANN)
        assert told["notice"]["kind"] == "error"
    _, told = decide(review, {"image": "it", "did": "accept"}, None, ANN)
    assert told["notice"]["kind"] == "error"
    assert files_that_count(kept) == []


def test_what_another_program_spoilt_is_passed_over(kept: Corrections, review: Review) -> None:
    kept.save(encoded(), boxes("RBC"), VISITOR)
    (path,) = (folder_of(kept) / "proposals" / "Annotations").iterdir()
    path.write_text("<annotation>")
    opened, told = proposal_to_review(review, ANN)
    assert opened is None
    assert told["notice"]["text"] == "Nothing is left to review."


def test_a_label_that_the_task_no_longer_knows_is_told(kept: Corrections) -> None:
    kept.save(encoded(), boxes("Platelets"), VISITOR)
    (folder_of(kept) / "labels.txt").write_text("RBC\nWBC\n")
    review = Review(Corrections(folder_of(kept)))
    with pytest.raises(CorrectionError, match=r"Box 1: choose one of the classes RBC, WBC\."):
        review.accept(open_only(review, ANN), boxes("Platelets"), ANN)
    assert len(review.list_names(ANN)) == 1


# ---------------------------------------------------------------- killed


def test_what_was_acknowledged_outlives_a_kill_at_any_moment(tmp_path: Path) -> None:
    """At each of the program's steps on the disk, one after the other, it is killed there."""
    command = [sys.executable, str(Path(__file__).parent / "killed.py"), str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    told = [line.split() for line in done.stdout.splitlines()]
    assert [what for what, _, _ in told] == ["propose", "accept", "refuse", "sample"]
    for _, killed, whole in told:
        assert int(killed) >= 6
        assert int(whole) > 0
