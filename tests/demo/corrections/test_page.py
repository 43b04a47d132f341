"""Corrections on the real page, of what a real server found, read again by `training`.

The picture for docs/corrections.md:

    SCREENSHOT=docs/images/corrections.png pytest tests/demo/corrections/test_page.py -k screenshot
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

import app
from client import Detector
from client.inbox.photo import image_id
from demo.corrections.options import CorrectionOptions
from serving.server.server import EmbeddedServer
from tests.demo.actions import choose_tab, drop, drop_photo, payload, reencoded, set_slider
from tests.demo.program import PROJECT, Program
from training.data.annotations import Annotation
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders

LABELS = ("RBC", "WBC", "Platelets")


@pytest.fixture(scope="module")
def address(server: EmbeddedServer, folder: Path) -> Iterator[str]:
    program = Program("--url", server.grpc_url, "--corrections", str(folder))
    yield program.address
    assert program.stop() == 0
    assert "Traceback" not in program.printed


def correct(page: Page, name: str) -> None:
    """Opens the photo on show, again if the server had not heard yet which one that is."""
    wanted = f"Correct the boxes of {name}"
    for _ in range(4):
        page.locator("#correct").click()
        expect(page.locator(".editor h2")).to_contain_text("Correct the boxes of")
        page.wait_for_timeout(500)
        if page.locator(".editor h2").inner_text() == wanted:
            break
    expect(page.locator(".editor h2")).to_have_text(wanted)


def save(page: Page) -> None:
    page.locator(".editor .save").click()
    expect(page.locator("#corrections .notice")).to_contain_text("Saved with")


def shapes(page: Page) -> list[str]:
    """What the editor tells of each box."""
    return page.locator(".stage .box").evaluate_all(
        "boxes => boxes.map((box) => box.getAttribute('aria-label'))"
    )


def stored(folder: Path, photo: bytes) -> Annotation:
    """What `training` reads of this photo, after `training check` found nothing wrong."""
    command = [sys.executable, "-m", "training", "check", str(folder)]
    checked = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    annotations = Folders(FolderSettings((folder,), val=0)).read("train", LABELS).annotations
    (found,) = [each for each in annotations if each.image_id == image_id(photo)]
    return found


def test_what_was_found_is_corrected_and_read_by_training(
    page: Page, smear: Path, folder: Path, server: EmbeddedServer
) -> None:
    photo = smear.read_bytes()
    with Detector(server.grpc_url) as detector:
        count = len(detector.detect(photo, score_threshold=0.8).detections)
    drop_photo(page, "smear.jpg", photo)
    set_slider(page, "score", 0.8)
    expect(page.locator("#photos-result .box")).to_have_count(count)
    correct(page, "smear.jpg")
    assert len(shapes(page)) == count  # what the sliders let through
    page.locator(".editor summary").click()
    page.get_by_role("button", name="Select box 1", exact=True).click()
    page.keyboard.press("Delete")
    stage = page.locator(".stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box
    page.locator(".editor .class").select_option("Platelets")
    page.mouse.move(box["x"] + 0.90 * box["width"], box["y"] + 0.90 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.99 * box["width"], box["y"] + 0.99 * box["height"], steps=3)
    page.mouse.up()
    save(page)
    annotation = stored(folder, photo)
    assert annotation.image_path.read_bytes() == photo
    assert len(annotation.labels) == count
    assert annotation.labels[-1] == "Platelets"
    assert annotation.boxes_xyxy[-1] / 640 == pytest.approx([0.9, 0.675, 0.99, 0.7425], abs=0.01)


def test_it_is_the_photo_on_show_that_is_corrected(page: Page, smear: Path, folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned = reencoded(smear, "JPEG", exif=exif)
    drop(page, payload("upright.jpg", smear.read_bytes() + b"1"), payload("turned.jpg", turned))
    page.get_by_role("button", name="turned.jpg").click()
    expect(page.locator("#photos-result .facts")).to_contain_text("turned.jpg")
    correct(page, "turned.jpg")
    save(page)
    annotation = stored(folder, turned)
    assert (annotation.width, annotation.height) == (480, 640)
    assert len(annotation.labels) == page.locator("#photos-result .box").count()


def test_the_editor_belongs_to_photos(page: Page, smear: Path) -> None:
    drop_photo(page, "tabs.jpg", smear.read_bytes() + b"2")
    correct(page, "tabs.jpg")
    choose_tab(page, "Compare")
    expect(page.locator(".editor")).to_be_hidden()
    choose_tab(page, "Photos")
    expect(page.locator(".editor h2")).to_have_text("Correct the boxes of tabs.jpg")


def test_screenshot(page: Page, smear: Path, tmp_path: Path) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes() + b"3")
    correct(page, "smear.jpg")
    page.locator(".editor summary").click()
    page.get_by_role("button", name="Select box 3", exact=True).click()
    page.locator(".editor summary").click()
    path = Path(os.environ.get("SCREENSHOT", tmp_path / "corrections.png"))
    picture = page.locator("#corrections").screenshot(animations="disabled")
    with Image.open(io.BytesIO(picture)) as image:  # 256 colours: half the file
        image.convert("RGB").quantize(256).save(path, optimize=True)
    assert path.stat().st_size < 300_000


def test_nothing_is_there_to_be_corrected_yet(page: Page) -> None:
    page.locator("#correct").click()
    expect(page.locator("#corrections .notice")).to_have_text("Choose a photo first.")


def said(address: str, event_data: Any) -> str:
    """The answer to a hostile browser that saves, as it comes over the network."""
    with httpx.Client(base_url=f"{address}/gradio_api", trust_env=False, timeout=60) as client:
        functions = client.get(f"{address}/config").json()["dependencies"]
        (save,) = [each["id"] for each in functions if "save" in [t[1] for t in each["targets"]]]
        call = {"data": [None], "event_data": event_data, "fn_index": save, "session_hash": "evil"}
        client.post("/queue/join", json=call).raise_for_status()
        with client.stream("GET", "/queue/data", params={"session_hash": "evil"}) as answer:
            return "".join(answer.iter_lines())


def test_a_hostile_browser_gets_a_sentence(address: str, folder: Path) -> None:
    before = sorted(folder.glob("*/*"))
    hostile: list[Any] = [None, 7, "boxes", [], {}, {"image": {}, "boxes": [{"label": 0}]}]
    for event_data in hostile:
        answer = said(address, event_data)
        assert "Another photo has been opened since" in answer, json.dumps(event_data)
        assert "Traceback" not in answer
    assert sorted(folder.glob("*/*")) == before


def test_without_a_folder_nothing_can_be_corrected(
    browser: Browser, server: EmbeddedServer
) -> None:
    program = Program("--url", server.grpc_url)
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(program.address)
        expect(page.locator("#photos-result .message")).to_be_visible()
        expect(page.locator("#correct, #corrections")).to_have_count(0)
    assert program.stop() == 0


def test_the_choice_is_the_embedded_servers_classes(tmp_path: Path) -> None:
    given = CorrectionOptions(corrections=str(tmp_path))
    assert app.open_learning(app.AppSettings(embedded=True, corrections=given))
    assert (tmp_path / "labels.txt").read_text().split() == list(LABELS)


@pytest.mark.slow
def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, text in (("file", "no corrections can be kept"), ("new", "write the classes")):
        program = Program("--corrections", str(tmp_path / folder))
        printed = program.process.communicate(timeout=60)[0].strip()
        assert program.process.returncode == 1
        assert text in printed
        assert len(printed.splitlines()) == 1
