"""The live version and its canary, side by side."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from client import Detector, Result
from demo.compare import comparison
from demo.facts import Facts
from serving.server.server import EmbeddedServer
from tests.demo.actions import choose_tab, drop, payload, set_slider
from tests.demo.program import SAMPLES, Forwarder


def iou(one: Result, place: int, other: Result, partner: int) -> float:
    a, b = one.detections[place].box, other.detections[partner].box
    wide = max(0.0, min(a.x2, b.x2) - max(a.x1, b.x1))
    high = max(0.0, min(a.y2, b.y2) - max(a.y1, b.y1))
    areas = [(box.x2 - box.x1) * (box.y2 - box.y1) for box in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def partners(one: Result, other: Result) -> int:
    """How many objects both have; in the samples no two boxes compete for a partner."""
    return sum(
        any(
            iou(one, i, other, k) >= 0.5 and other.detections[k].label == found.label
            for k in range(len(other.detections))
        )
        for i, found in enumerate(one.detections)
    )


def test_both_answers_stand_side_by_side_with_what_differs(
    page: Page, trial_server: EmbeddedServer
) -> None:
    choose_tab(page, "Compare")
    page.locator("#compare-examples button").nth(2).click()
    photo = SAMPLES[2]
    with (
        Detector(trial_server.grpc_url) as live,
        Detector(trial_server.grpc_url, model="ensemble_canary") as trial,
    ):
        for score in (0.5, 0.63):  # just between two scores of one object
            set_slider(page, "score", score)
            found = [each.detect(photo, score_threshold=score) for each in (live, trial)]
            both = partners(*found)
            alone = [len(each.detections) - both for each in found]
            expect(page.locator("#compare-result .differences")).to_have_text(
                f"{both} in both, {alone[0]} only in ensemble, {alone[1]} only in ensemble_canary"
            )
            for side, result in zip(page.locator(".sides section").all(), found, strict=True):
                expect(side.locator(".box")).to_have_count(len(result.detections))
            expect(page.locator("#compare-result .box.alone")).to_have_count(sum(alone))
            rows = page.locator("#compare-result tbody tr")
            expect(rows).to_have_count(both + sum(alone))
    versions = page.locator("#compare-result .server").all_inner_texts()
    assert "ssd 2" in versions[0]
    assert "ssd 1" in versions[1]


def test_without_a_canary_it_says_how_to_get_one(
    page: Page, smear: Path, forwarder: Forwarder
) -> None:
    choose_tab(page, "Compare")
    forwarder.hidden.add("ensemble_canary")
    try:
        drop(page, payload("smear.jpg", smear.read_bytes()), zone="compare-drop")
        message = page.locator("#compare-result .message")
        expect(message.locator("strong")).to_have_text("No canary is on trial")
        expect(message.locator("code").first).to_contain_text("serving canary")
    finally:
        forwarder.hidden.clear()


def test_any_two_ensembles_can_be_compared(page: Page) -> None:
    choose_tab(page, "Compare")
    page.locator("#compare-examples button").first.click()
    expect(page.locator(".differences")).to_be_visible()
    other = page.locator("#other input")
    other.click()
    page.get_by_role("option", name="ensemble", exact=True).click()
    same = re.compile("0 only in ensemble, 0 only in ensemble$")
    expect(page.locator(".differences")).to_have_text(same)
    other.fill("nobody")
    other.press("Enter")
    page.locator("#compare-again").click()
    expect(page.locator("#compare-result .message.error strong")).to_have_text(
        "The server has no ensemble nobody"
    )


@pytest.mark.parametrize("model", ["", 7, None, [], {}, "x" * 201])
def test_what_is_no_name_is_told(model: Any) -> None:
    with Detector("127.0.0.1:1") as detector:
        answer = comparison(detector, Facts(detector), ["a.jpg"], 0.45, ("ensemble", model))
    assert answer["message"]["headline"] == "An ensemble has no name"
