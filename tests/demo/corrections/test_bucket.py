"""Corrections in a bucket: several machines at once, a kill at any request, a store away."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from benchmarks.monitoring.watched import Store
from client.inbox import turn
from client.inbox.photo import image_id
from demo.corrections.boxes import CorrectionError
from demo.corrections.editor import decide, proposal_to_review
from demo.corrections.folder import Corrections
from demo.corrections.people import OWNER, Person
from demo.corrections.review import Review
from tests.client.inbox.test_objects import Killed, killed_at
from tests.demo.corrections.killed import act, act_again, check_rest, prepare
from tests.demo.corrections.test_folder import LABELS, encoded
from tests.demo.corrections.test_review import ANN, BEN, VISITOR, boxes, counting

AWAY = "could not reach the place where it keeps corrections"


def run_at_once(*tasks: Any) -> list[Any]:
    """What became of each."""
    results: list[Any] = [None] * len(tasks)

    def run(number: int) -> None:
        try:
            results[number] = tasks[number]()
        except CorrectionError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_pages_on_several_machines_lose_nobodys_boxes(s3: str) -> None:
    pages = [Corrections(s3, LABELS) for _ in range(4)]
    people = [Person(f"visitor {number}") for number in range(4)]
    saved = run_at_once(
        *(lambda k=k: pages[k].save(encoded(), boxes("RBC"), people[k]) for k in range(4))
    )
    assert [each.state for each in saved] == ["proposed"] * 4
    review = Review(Corrections(s3))
    cases = [review.open_case(name) for name in review.list_names(ANN)]
    assert sorted(case.proposal.author for case in cases if case) == [p.name for p in people]


def test_of_two_owners_on_two_machines_one_counts_and_the_other_is_kept_beside(s3: str) -> None:
    pages = [Corrections(s3, LABELS) for _ in range(2)]
    drafts = [page.open(encoded()) for page in pages]
    saved = run_at_once(
        lambda: pages[0].save(encoded(), boxes("RBC"), OWNER, drafts[0]),
        lambda: pages[1].save(encoded(), boxes("WBC"), OWNER, drafts[1]),
    )
    assert sorted(each.state for each in saved) == ["accepted", "beside"]
    assert len(counting(pages[0])) == 1


def test_of_two_reviewers_on_two_machines_one_decides(s3: str) -> None:
    Corrections(s3, LABELS).save(encoded(), boxes("RBC"), VISITOR)
    reviews = [Review(Corrections(s3)) for _ in range(2)]
    first, second = (review.open_case(review.list_names(ANN)[0]) for review in reviews)
    assert first
    assert second
    done = run_at_once(
        lambda: reviews[0].accept(first, boxes("RBC"), ANN),
        lambda: reviews[1].accept(second, boxes("WBC"), BEN),
    )
    (refused,) = (each for each in done if isinstance(each, CorrectionError))
    assert "decided about this proposal" in str(refused) or "accepted other boxes" in str(refused)
    assert len(counting(Corrections(s3))) == 1
    assert len(reviews[0].tell_history(image_id(encoded()))) in (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("what", "requests"), [("propose", 4), ("accept", 6), ("refuse", 5)])
def test_what_was_acknowledged_outlives_a_kill_at_any_request(
    s3: str, what: str, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "LEASE", 0.1)  # an owner counts as dead at once
    monkeypatch.setattr(turn, "PAUSE", (0.02, 0.05))
    for step in range(1, 20):
        address = f"{s3}/{step}"
        kept = prepare(address)
        try:
            with killed_at(step):
                act(what, kept)
        except Killed:
            check_rest(what, address, True)
            act_again(what, address)
            continue
        assert check_rest(what, address, False)
        assert step > requests
        return
    pytest.fail("it was never through")


@contextmanager
def away(store: Store) -> Iterator[None]:
    store.away()
    try:
        yield
    finally:
        store.back()


def test_a_store_that_is_away_is_a_sentence_and_nothing_is_lost(
    moto_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    kept = Corrections(store.address, LABELS)
    review = Review(kept)
    saved = kept.save(encoded(), boxes("RBC"), VISITOR)
    opened, _ = proposal_to_review(review, ANN)
    with away(store):
        with pytest.raises(CorrectionError, match=AWAY):
            kept.save(encoded(), boxes("WBC"), VISITOR, saved.draft)
        with pytest.raises(CorrectionError, match=AWAY):
            kept.open(encoded(), VISITOR)
        sent = {"image": opened.image if opened else "", "did": "accept", "boxes": boxes("RBC")}
        still_open, told = decide(review, sent, opened, ANN)
        assert AWAY in told["notice"]["text"]
        assert still_open is opened  # with the boxes that the reviewer has drawn
        assert AWAY in proposal_to_review(review, ANN)[1]["notice"]["text"]
    assert "cannot be reached" in caplog.text  # who runs the page reads where
    assert str(store.port) in caplog.text
    _, told = decide(review, sent, opened, ANN)
    assert told["notice"]["text"].startswith("Accepted with 1 box.")
    assert counting(kept) == [("RBC",)]
    store.away()
