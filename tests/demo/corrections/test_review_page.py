"""Proposals on the real page, in front of a login: who makes them, and who decides.

The pictures for docs/corrections.md:

    SCREENSHOTS=docs/images pytest tests/demo/corrections/test_review_page.py
"""

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from client.inbox.photo import image_id
from demo.corrections.folder import Corrections
from demo.corrections.people import Person
from serving.server.server import EmbeddedServer
from tests.conftest import wait_until
from tests.demo.actions import drop_photo
from tests.demo.program import Program

PASSWORD = "a long password"
USERS = ("ann", "ben", "visitor")
WAIT = 20_000  # milliseconds
BOXES = [
    {"label": "WBC", "x1": 120, "y1": 120, "x2": 360, "y2": 330},
    {"label": "RBC", "x1": 170, "y1": 20, "x2": 280, "y2": 120},
    {"label": "Platelets", "x1": 336, "y1": 20, "x2": 386, "y2": 60},
]


@pytest.fixture(scope="module")
def address(server: EmbeddedServer, folder: Path) -> Iterator[str]:
    """A page with a login for three people, of whom two review."""
    logins = "\n".join(f"{user}:{PASSWORD}" for user in USERS)
    options = ("--corrections", str(folder), "--reviewers", "ann,ben", "--unsure", "1")
    program = Program("--url", server.grpc_url, *options, APP_AUTH=logins)
    yield program.address
    assert program.stop() == 0
    assert "Traceback" not in program.printed


@pytest.fixture
def log_in(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Opens the page as somebody, in a browser of their own."""
    contexts, errors = [], []

    def log_in(user: str) -> Page:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}))
        contexts[-1].set_default_timeout(WAIT)
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(address)
        page.get_by_label("username").fill(user)
        page.get_by_label("password").fill(PASSWORD)
        page.get_by_role("button", name="Login").click()
        expect(page.locator("#photos-result .message")).to_be_visible()
        return page

    yield log_in
    for context in contexts:
        context.close()
    assert errors == []


def propose(page: Page, name: str, photo: bytes) -> int:
    """Drops a photo and saves what was found in it; returns how many boxes that are."""
    drop_photo(page, name, photo)
    page.locator("#correct").click()
    expect(page.locator(".editor h2")).to_have_text(f"Correct the boxes of {name}")
    page.locator(".editor .save").click()
    notice = page.locator("#corrections .notice")
    expect(notice).to_contain_text("They count when somebody else has accepted them.")
    return page.locator(".stage .box").count()


def boxes_that_count(folder: Path, photo: bytes) -> int | None:
    path = folder / "Annotations" / f"{image_id(photo)}.xml"
    return path.read_text().count("<object>") if path.exists() else None


def test_a_visitor_proposes_and_a_reviewer_accepts_refuses_and_changes(
    log_in: Callable[..., Page], smear: Path, folder: Path, tmp_path: Path
) -> None:
    photos = [smear.read_bytes() + bytes([number]) for number in range(2)]
    visitor = log_in("visitor")
    expect(visitor.locator("#review")).to_be_hidden()
    expect(visitor.locator("header")).to_contain_text("are kept on this page's server")
    count = propose(visitor, "smear.jpg", photos[0])
    (kept := Corrections(folder)).save(photos[0], BOXES, Person("ann"))
    kept.save(photos[1], BOXES, Person("visitor"), version="ensemble: ssd 2")
    assert [boxes_that_count(folder, photo) for photo in photos] == [None, None]
    drop_photo(visitor, "unsure.jpg", smear.read_bytes())
    wait_until(lambda: kept.inbox.samples(image_id(smear.read_bytes())))

    ben = log_in("ben")
    notice = ben.locator("#corrections .notice")
    expect(ben.locator("#review")).to_have_text("Review what is proposed (4)")
    ben.locator("#review").click()
    expect(ben.locator(".editor h2")).to_have_text(f"Review: {count} boxes, proposed by visitor")
    expect(ben.locator(".past li")).to_contain_text(["answered by ensemble: preprocess 1, ssd 2"])
    expect(ben.locator(".save")).to_be_hidden()
    ben.locator(".accept").click()
    expect(ben.locator(".editor h2")).to_have_text("Review: 3 boxes, proposed by ann")
    expect(notice).to_have_text(f"Accepted with {count} boxes.")
    expect(ben.locator(".counting")).to_have_count(count)  # what counts, below what is proposed
    assert boxes_that_count(folder, photos[0]) == count
    save_pictures(ben, tmp_path)
    ben.locator(".refuse").click()
    expect(notice).to_have_text("Refused.")
    expect(ben.locator(".editor h2")).to_contain_text("Review: 3 boxes, proposed by visitor")
    ben.locator(".editor summary").click()
    ben.get_by_role("button", name="Remove box 1", exact=True).click()
    expect(ben.locator(".accept")).to_have_text("Accept with my changes")
    ben.locator(".accept").click()
    expect(ben.locator(".editor h2")).to_contain_text("found by the model, which is unsure (")
    expect(notice).to_have_text("Accepted with 2 boxes.")
    ben.locator(".skip").click()
    expect(notice).to_have_text("Nothing is left to review.")
    expect(ben.locator(".editor")).to_be_hidden()
    expect(ben.locator("#review")).to_have_text("Review what is proposed (1)")
    assert [boxes_that_count(folder, photo) for photo in photos] == [count, 2]


def save_pictures(page: Page, otherwise: Path) -> None:
    """Saves the editor, wide and on a phone, into the folder SCREENSHOTS if that is set."""
    page.locator(".stage img").evaluate("image => image.decode()")
    for name, width in (("review.png", 1280), ("review-phone.png", 390)):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        path = Path(os.environ.get("SCREENSHOTS", otherwise)) / name
        picture = page.locator("#corrections").screenshot(animations="disabled")
        with Image.open(io.BytesIO(picture)) as image:  # 256 colours: half the file
            image.convert("RGB").quantize(256).save(path, optimize=True)
        assert path.stat().st_size < 300_000
    page.set_viewport_size({"width": 1280, "height": 900})
