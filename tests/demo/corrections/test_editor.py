"""The editor of corrections on a page of its own, in a real Chromium."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from client import Box, Detection, Result
from client.inbox.photo import image_id
from demo.corrections.boxes import CorrectedBox
from demo.corrections.editor import Opened, answer, correction_editor, found_boxes
from demo.corrections.folder import Corrections
from demo.photos import Found
from tests.conftest import PROJECT
from tests.demo.program import free_port
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders

LABELS = ("RBC", "WBC", "Platelets", "<b>bold</b>")
WIDTH, HEIGHT = 640, 480
FOUND = (
    Detection("RBC", 0, 0.9, Box(20.2, 30.4, 120.6, 130)),
    Detection("WBC", 1, 0.8, Box(300, 200, 460, 360)),
    Detection("RBC", 0, 0.7, Box(340, 240, 420, 320)),  # within the one before
)
WAIT = 20_000  # milliseconds


def result(width: int = WIDTH, height: int = HEIGHT) -> Result:
    return Result(FOUND, width, height)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, smear: Path) -> Path:
    """A folder of photos, each with other bytes, so that tests do not meet in one correction."""
    folder = tmp_path_factory.mktemp("photos")
    content = smear.read_bytes()
    for number in range(12):
        (folder / f"{number}.jpg").write_bytes(content + bytes([number]))
    (folder / "<img src=x>.jpg").write_bytes(content + b"hostile")
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Corrections:
    return Corrections(tmp_path_factory.mktemp("corrections"), LABELS)


@pytest.fixture(scope="module")
def address(
    kept: Corrections, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A page with a field that names the photo on show, and the editor."""

    def current(name: str) -> Found | None:
        return Found(str(photos / name), result(), "ensemble: ssd 3") if name else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        for variable in ("NO_PROXY", "no_proxy"):
            patch.setenv(variable, "127.0.0.1,localhost")
        with gr.Blocks(analytics_enabled=False) as page:
            name = gr.Textbox(label="photo")
            correction_editor(kept, [name], current)
        _, url, _ = page.launch(
            server_name="127.0.0.1",
            server_port=free_port(),  # Gradio's own search leaves a socket open
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
        )
        yield url
        page.close(verbose=False)


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    contexts, errors = [], []

    def open_page(width: int = 1280, height: int = 900, **options: Any) -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(error))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        page.goto(address)
        expect(page.locator("#correct")).to_be_visible(timeout=WAIT)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


def correct(page: Page, name: str) -> None:
    """Opens a photo in the editor."""
    page.get_by_label("photo", exact=True).fill(name)
    page.locator("#correct").click()
    expect(page.locator(".editor h2")).to_have_text(f"Correct the boxes of {name}", timeout=WAIT)


def save(page: Page) -> None:
    page.locator(".save").click()
    expect(page.locator(".notice")).to_contain_text("Saved with", timeout=WAIT)


def stored(kept: Corrections, photos: Path, name: str) -> tuple[CorrectedBox, ...]:
    boxes = kept.load((photos / name).read_bytes())
    assert boxes is not None
    return boxes


def on_screen(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the photo is on the screen."""
    stage = page.locator(".stage").bounding_box()
    assert stage
    return stage["x"] + x / WIDTH * stage["width"], stage["y"] + y / HEIGHT * stage["height"]


def drag(page: Page, *points: tuple[float, float]) -> None:
    """With the mouse, from one pixel of the photo to others."""
    page.locator(".stage").scroll_into_view_if_needed()
    page.mouse.move(*on_screen(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*on_screen(page, *point), steps=4)
    page.mouse.up()


def click(page: Page, x: float, y: float) -> None:
    page.locator(".stage").scroll_into_view_if_needed()
    page.mouse.click(*on_screen(page, x, y))


def shapes(page: Page) -> Locator:
    return page.locator(".stage .box")


def selected(page: Page) -> Locator:
    return page.locator(".stage .box.selected")


def near(box: CorrectedBox, label: str, *edges: int) -> bool:
    """Whether it is this box, give or take what a pixel of the screen stands for."""
    found = (box.x1, box.y1, box.x2, box.y2)
    return box.label == label and all(
        abs(edge - wanted) <= 2 for edge, wanted in zip(found, edges, strict=True)
    )


# ---------------------------------------------------------------- what people do


def test_all_boxes_are_right(page: Page, kept: Corrections, photos: Path) -> None:
    correct(page, "0.jpg")
    expect(shapes(page)).to_have_count(3)
    expect(page.locator(".save")).to_have_text("All boxes are right: save")
    save(page)
    expect(page.locator(".notice")).to_have_text("Saved with 3 boxes. Thank you.")
    assert stored(kept, photos, "0.jpg") == (
        CorrectedBox("RBC", 20, 30, 121, 130),
        CorrectedBox("WBC", 300, 200, 460, 360),
        CorrectedBox("RBC", 340, 240, 420, 320),
    )


def test_a_missing_box_is_drawn_a_wrong_one_removed_and_one_renamed(
    page: Page, kept: Corrections, photos: Path
) -> None:
    correct(page, "1.jpg")
    page.get_by_label("Class of new boxes").select_option("Platelets")
    drag(page, (500, 50), (560, 80), (600, 110))
    expect(shapes(page)).to_have_count(4)
    expect(page.get_by_label("Class of box 4").first).to_have_value("Platelets")
    click(page, 70, 80)
    page.keyboard.press("Delete")
    expect(shapes(page)).to_have_count(3)
    click(page, 310, 210)
    page.locator(".class").select_option("RBC")
    page.get_by_label("Not sure", exact=True).check()
    expect(page.locator(".save")).to_have_text("Save the corrections")
    save(page)
    wide, small, drawn = stored(kept, photos, "1.jpg")
    assert wide == CorrectedBox("RBC", 300, 200, 460, 360, difficult=True)
    assert small == CorrectedBox("RBC", 340, 240, 420, 320)
    assert near(drawn, "Platelets", 500, 50, 600, 110)


def test_training_reads_what_was_saved(page: Page, kept: Corrections, photos: Path) -> None:
    correct(page, "2.jpg")
    drag(page, (630, 470), (500, 400))
    save(page)
    folder = Path(kept.inbox.address)
    command = [sys.executable, "-m", "training", "check", str(folder)]
    checked = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "nothing is wrong" in checked.stdout
    annotations = Folders(FolderSettings((folder,), val=0)).read("train", LABELS).annotations
    name = image_id((photos / "2.jpg").read_bytes())
    (found,) = [annotation for annotation in annotations if annotation.image_id == name]
    assert found.boxes_xyxy[-1] == pytest.approx([500, 400, 630, 470], abs=2)
    assert found.labels == ("RBC", "WBC", "RBC", "RBC")


def test_a_box_is_moved_and_resized_with_the_mouse(
    page: Page, kept: Corrections, photos: Path
) -> None:
    correct(page, "3.jpg")
    click(page, 70, 80)
    drag(page, (70, 80), (90, 110))
    drag(page, (141, 160), (200, 190))  # its lower right corner
    drag(page, (40, 60), (-50, -50))  # its upper left one, beyond the photo
    save(page)
    assert near(stored(kept, photos, "3.jpg")[0], "RBC", 0, 0, 200, 190)


def test_clicks_reach_boxes_that_lie_below_others(page: Page) -> None:
    correct(page, "4.jpg")
    for label in ("Box 3", "Box 2", "Box 3"):
        click(page, 380, 280)
        expect(selected(page)).to_have_accessible_name(re.compile(f"^{label}:"))
    page.keyboard.press("Escape")
    expect(selected(page)).to_have_count(0)
    drag(page, (350, 250), (400, 300))  # begins on boxes that are not selected
    expect(shapes(page)).to_have_count(4)


def test_steps_are_undone(page: Page) -> None:
    correct(page, "4.jpg")
    expect(page.locator(".undo")).to_be_disabled()
    before = table(page)
    click(page, 70, 80)
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Delete")
    drag(page, (500, 50), (600, 110))
    expect(shapes(page)).to_have_count(3)
    page.keyboard.press("Control+z")
    expect(shapes(page)).to_have_count(2)
    page.locator(".undo").click()
    expect(shapes(page)).to_have_count(3)
    assert table(page) != before
    page.locator(".undo").click()  # the three arrow keys are one step
    assert table(page) == before
    expect(page.locator(".undo")).to_be_disabled()
    expect(page.locator(".save")).to_have_text("All boxes are right: save")


def table(page: Page) -> list[list[str]]:
    """Labels and edges of all boxes."""
    script = """rows => rows.map(row =>
        [...row.querySelectorAll("select, input[type=number]")].map(({value}) => value))"""
    return page.locator(".editor tbody tr").evaluate_all(script)


def test_everything_can_be_done_with_the_keyboard(
    page: Page, kept: Corrections, photos: Path
) -> None:
    correct(page, "5.jpg")
    press = page.keyboard.press
    page.get_by_role("button", name="Add a box").focus()
    press("Enter")
    expect(selected(page)).to_be_focused()
    expect(page.locator(".said")).to_have_text("Box 4 added.")
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowRight", "Shift+ArrowDown"):
        press(key)
    expect(page.locator(".said")).to_contain_text("Box 4: RBC, left 270")
    page.locator("summary").focus()
    press("Enter")
    page.get_by_label("Left edge of box 1").focus()
    press("Control+a")
    page.keyboard.type("-5")
    press("Tab")
    expect(page.get_by_label("Left edge of box 1")).to_have_value("0")
    expect(page.get_by_label("Top edge of box 1")).to_be_focused()
    press("ArrowUp")
    page.get_by_label("Class of box 1").focus()
    press("W")
    page.get_by_role("button", name="Remove box 2").focus()
    press("Enter")
    expect(page.locator(".undo")).to_be_focused()
    page.get_by_role("button", name="Save the corrections").focus()
    press("Enter")
    expect(page.locator(".notice")).to_have_text("Saved with 3 boxes. Thank you.", timeout=WAIT)
    first, second, added = stored(kept, photos, "5.jpg")
    assert first == CorrectedBox("WBC", 0, 31, 121, 130)
    assert second == CorrectedBox("RBC", 340, 240, 420, 320)
    assert added == CorrectedBox("RBC", 270, 190, 368, 288)


def test_a_finger_draws_on_a_phone(
    open_page: Callable[..., Page], kept: Corrections, photos: Path
) -> None:
    page = open_page(width=375, height=700, has_touch=True, is_mobile=True)
    correct(page, "6.jpg")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.locator(".stage").scroll_into_view_if_needed()
    finger = page.context.new_cdp_session(page)
    for kind, *point in (
        ("touchStart", 480, 60),
        ("touchMove", 540, 100),
        ("touchMove", 580, 140),
        ("touchEnd",),
    ):
        points = [dict(zip("xy", on_screen(page, *point), strict=True))] if point else []
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    expect(shapes(page)).to_have_count(4)
    page.touchscreen.tap(*on_screen(page, 70, 80))
    expect(selected(page)).to_have_accessible_name(re.compile("^Box 1:"))
    page.locator(".remove").tap()
    expect(shapes(page)).to_have_count(3)
    save(page)
    assert near(stored(kept, photos, "6.jpg")[-1], "RBC", 480, 60, 580, 140)


def test_a_saved_correction_is_shown_again(page: Page, kept: Corrections, photos: Path) -> None:
    correct(page, "7.jpg")
    click(page, 70, 80)
    page.locator(".remove").click()
    save(page)
    page.locator(".close").click()
    expect(page.locator(".editor")).to_be_hidden()
    correct(page, "7.jpg")
    expect(page.locator(".notice")).to_contain_text("Somebody has corrected this photo before")
    expect(shapes(page)).to_have_count(2)


def test_opened_again_the_boxes_so_far_can_be_had_back(page: Page) -> None:
    correct(page, "8.jpg")
    click(page, 70, 80)
    page.locator(".remove").click()
    expect(shapes(page)).to_have_count(2)
    page.locator("#correct").click()
    expect(shapes(page)).to_have_count(3, timeout=WAIT)
    page.locator(".undo").click()
    expect(shapes(page)).to_have_count(2)


# ---------------------------------------------------------------- what goes wrong


def test_no_photo_yet(page: Page) -> None:
    page.locator("#correct").click()
    expect(page.locator(".notice")).to_have_text("Choose a photo first.", timeout=WAIT)
    expect(page.locator(".editor")).to_be_hidden()


def test_a_photo_that_is_gone_is_told_and_the_boxes_stay(page: Page, photos: Path) -> None:
    correct(page, "10.jpg")
    photo = (photos / "10.jpg").rename(photos / "moved")
    for _ in range(2):  # the same sentence twice is heard twice
        page.locator(".save").click()
        expect(page.locator(".notice.error")).to_contain_text("no longer here", timeout=WAIT)
        expect(page.locator(".save")).to_be_enabled()
    photo.rename(photos / "10.jpg")
    save(page)


def test_boxes_of_a_photo_do_not_reach_another(kept: Corrections, photos: Path) -> None:
    opened = Opened(image_id(b"this"), photos / "11.jpg")
    others: list[dict[str, Any]] = [{"image": "other", "boxes": []}, {"boxes": []}, {}]
    for sent in others:
        assert "Another photo" in answer(kept, sent, opened)[1]["notice"]["text"]
    assert (
        "Another photo" in answer(kept, {"image": "None", "boxes": []}, None)[1]["notice"]["text"]
    )
    assert kept.load((photos / "11.jpg").read_bytes()) is None


def test_hostile_boxes_get_a_sentence(kept: Corrections, photos: Path) -> None:
    opened = Opened("11", photos / "11.jpg")
    hostile: list[Any] = [None, [{}], [{"label": "RBC", "x1": 9e99, "y1": 0, "x2": 1, "y2": 4}]]
    for boxes in hostile:
        said = answer(kept, {"image": "11", "boxes": boxes}, opened)[1]["notice"]
        assert said["kind"] == "error"
        assert "Traceback" not in said["text"]
    assert kept.load((photos / "11.jpg").read_bytes()) is None


def test_markup_in_names_and_classes_stays_text(
    page: Page, kept: Corrections, photos: Path
) -> None:
    correct(page, "<img src=x>.jpg")
    page.locator(".class").select_option("<b>bold</b>")
    drag(page, (500, 50), (600, 110))
    save(page)
    assert page.locator(".editor b", has_text="bold").count() == 0
    assert page.locator(".editor img").count() == 1
    assert stored(kept, photos, "<img src=x>.jpg")[-1].label == "<b>bold</b>"


def test_what_the_page_is_sent_is_json(kept: Corrections) -> None:
    json.dumps(answer(kept, {}, None)[1])


# ---------------------------------------------------------------- boxes as found


def test_nothing_found() -> None:
    assert found_boxes(Result((), 10, 10)) == ()


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (Box(0, 0, 10, 8), (0, 0, 10, 8)),
        (Box(3.2, 3.6, 3.3, 3.7), (3, 4, 5, 6)),
        (Box(9.9, 7.9, 10, 8), (8, 6, 10, 8)),
        (Box(-2, -3, 12, 9), (0, 0, 10, 8)),
    ],
)
def test_found_boxes_can_be_stored(box: Box, expected: tuple[int, ...]) -> None:
    detections = (Detection("RBC", 0, 0.5, box),)
    (found,) = found_boxes(Result(detections, 10, 8))
    assert (found.x1, found.y1, found.x2, found.y2) == expected
