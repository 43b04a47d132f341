"""The page with a keyboard, a screen reader, and on a phone."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from client import drawing
from demo.pictures import ink
from tests.demo.actions import choose_tab, drop_photo, screenshot, set_slider, size_of


def test_it_fits_a_phone(open_page: Callable[..., Page], smear: Path) -> None:
    page = open_page(width=375, height=700)
    drop_photo(page, "smear.jpg", smear.read_bytes())
    result, settings = (page.locator(part).bounding_box() for part in ("#result", "#settings"))
    assert result
    assert settings
    assert result["y"] < settings["y"]
    for tab in ("Photos", "Compare", "Camera", "Video"):
        choose_tab(page, tab)
        if tab == "Compare":
            page.locator("#compare-examples button").first.click()
            expect(page.locator(".differences")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_arrow_keys_walk_through_the_boxes_and_tell_each(page: Page, smear: Path) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    count = page.locator(".box").count()
    photo = page.locator("#photos-result .photo")
    photo.focus()
    told = page.locator("#photos-result .told")
    for keys, place in ((["ArrowRight"], 1), (["ArrowDown"], 2), (["ArrowLeft"] * 2, count)):
        for key in keys:
            page.keyboard.press(key)
        expect(told).to_contain_text(f"{place} of {count}: ")
    expect(told).to_have_attribute("aria-live", "polite")
    page.keyboard.press("Escape")
    expect(told).to_have_text("")


def test_a_class_is_chosen_with_the_keyboard_and_keeps_the_focus(page: Page, smear: Path) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    page.locator(".chip", has_text="WBC").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".box")).to_have_count(1)
    expect(page.locator(".chip", has_text="WBC")).to_be_focused()


def test_it_has_names_for_those_who_do_not_see_it(page: Page, smear: Path) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    result = page.locator("#photos-result")
    expect(result.get_by_role("status").first).to_contain_text("smear.jpg: 18 RBC, 1 WBC")
    expect(result.get_by_role("application")).to_have_accessible_name(
        "smear.jpg: 18 RBC, 1 WBC, 1 Platelets. Arrow keys go from box to box."
    )
    table = result.get_by_role("table")
    expect(table).to_have_accessible_name("Detections, best first; edges of the boxes in pixels")
    expect(table.get_by_role("columnheader")).to_have_count(7)
    expect(table.get_by_role("rowheader")).to_have_count(20)
    unnamed = page.locator(":is(button, input, video, img:not([alt])):visible").evaluate_all(
        """all => all.filter(one => !(one.ariaLabel || one.title || one.innerText
            || one.labels?.length || one.hasAttribute('aria-labelledby')))
            .map(one => one.outerHTML)"""
    )
    assert unnamed == []


@pytest.mark.parametrize("class_id", range(12))
def test_writing_on_a_classs_colour_can_be_read(class_id: int) -> None:
    def luminance(colour: tuple[int, ...]) -> float:
        parts = [each / 255 for each in colour]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    colour = drawing.colour(class_id)
    written = 0.0 if ink(colour) == "black" else 1.0
    lighter, darker = sorted((luminance(colour), written), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # WCAG 2.2, level AA


# ---------------------------------------------------------------- pictures for the README and docs


def saved(page: Page, name: str, tmp_path: Path) -> None:
    """Saves into the folder SCREENSHOTS, if that is set."""
    path = Path(os.environ.get("SCREENSHOTS", tmp_path)) / name
    screenshot(page, path)
    viewport = page.viewport_size
    assert viewport
    assert size_of(path) == (viewport["width"], viewport["height"])
    assert path.stat().st_size < 300_000


def test_screenshot(open_page: Callable[..., Page], tmp_path: Path) -> None:
    page = open_page(height=1060)
    page.locator("#photos-examples button").first.click()
    expect(page.locator(".box").first).to_be_visible()
    saved(page, "demo.png", tmp_path)


def test_screenshot_of_a_phone(open_page: Callable[..., Page], tmp_path: Path) -> None:
    page = open_page(width=390, height=844)
    page.locator("#photos-examples button").first.click()
    expect(page.locator(".box").first).to_be_visible()
    page.locator("#photos-result .summary").scroll_into_view_if_needed()
    page.evaluate("document.querySelector('#photos-result').scrollIntoView()")
    saved(page, "demo-phone.png", tmp_path)


def test_screenshot_of_a_comparison(page: Page, tmp_path: Path) -> None:
    choose_tab(page, "Compare")
    page.locator("#compare-examples button").nth(2).click()
    set_slider(page, "score", 0.63)
    expect(page.locator(".sides .box").first).to_be_visible()
    saved(page, "demo-compare.png", tmp_path)
