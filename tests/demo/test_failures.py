"""What goes wrong is told in plain sentences, in the place of the result."""

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.conftest import wait_until
from tests.demo.actions import choose_tab, drop, drop_photo, payload, set_slider
from tests.demo.program import Forwarder

ERROR = "#photos-result .message.error"
EXPECTED = "JPEG, PNG, BMP, WebP or TIFF expected"


def test_a_file_that_is_no_photo_gets_a_readable_message(page: Page, smear: Path) -> None:
    photo = smear.read_bytes()
    no_image = f"Not an image ({EXPECTED})"
    files = {
        "notes.txt": (b"no photo at all", no_image),
        "disguised.jpg": (b"no photo at all", no_image),
        "half.jpg": (photo[: len(photo) // 2], "Truncated or damaged JPEG"),
        "empty.jpg": (b"", "Empty"),
        "IMG_1.HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", f"HEIC is not read ({EXPECTED})"),
        "a.avif": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", f"AVIF is not read ({EXPECTED})"),
        "a.gif": (b"GIF89a\1\0\1\0\0\0\0;", f"GIF is not read ({EXPECTED})"),
    }
    for name, (content, text) in files.items():
        drop(page, payload(name, content))
        expect(page.locator(f"{ERROR} strong")).to_have_text(f"{name} cannot be used")
        expect(page.locator(f"{ERROR} p")).to_have_text(text)


def test_the_drop_zones_name_their_formats_so_that_phones_convert(page: Page) -> None:
    for tab, zone in (("Photos", "photos-drop"), ("Compare", "compare-drop")):
        choose_tab(page, tab)
        expect(page.locator(f"#{zone} input[type=file]")).to_have_attribute(
            "accept", ".bmp,.jpeg,.jpg,.png,.tif,.tiff,.webp"
        )
    choose_tab(page, "Video")
    expect(page.locator("#clip input[type=file]")).to_have_attribute(
        "accept", ".avi,.m4v,.mkv,.mov,.mp4,.mpeg,.mpg,.ogv,.webm,.wmv"
    )


def test_a_name_is_never_read_as_html(page: Page, smear: Path) -> None:
    name = "<img src=x onerror=alert(1)>.jpg"
    drop(page, payload(name, smear.read_bytes()))
    expect(page.locator(".facts")).to_contain_text("onerror")
    assert page.locator("#photos-result img").count() == 1


def test_a_number_no_threshold_can_have_gets_a_readable_message(page: Page, smear: Path) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    set_slider(page, "iou", 7)
    expect(page.locator(f"{ERROR} p")).to_contain_text("iou_threshold")


def test_no_photo_gets_a_readable_message(page: Page) -> None:
    page.locator("#again").click()
    expect(page.locator("#photos-result .message.hint strong")).to_have_text("No photo yet")


def test_a_photo_over_the_limit_gets_a_readable_message(page: Page, tmp_path: Path) -> None:
    huge = tmp_path / "huge.jpg"
    with huge.open("wb") as file:
        file.truncate(33 * 2**20)
    page.set_input_files("#photos-drop input[type=file]", huge)
    expect(page.locator(f"{ERROR} strong")).to_have_text("huge.jpg cannot be used")
    expect(page.locator(f"{ERROR} p")).to_have_text("It has 33 MB, and 32 MB is the limit.")


def test_a_file_over_the_upload_limit_gets_a_readable_message(page: Page, tmp_path: Path) -> None:
    huge = tmp_path / "huge.mp4"
    with huge.open("wb") as file:
        file.truncate(201 * 2**20)
    page.set_input_files("#photos-drop input[type=file]", huge)
    expect(page.locator("body")).to_contain_text(re.compile("maximum allowed size of 200"))
    expect(page.locator("#photos-result .message.hint strong")).to_have_text("No photo yet")


def test_a_server_that_is_away_is_told_and_may_come_back(
    page: Page, smear: Path, forwarder: Forwarder
) -> None:
    forwarder.stop()
    drop(page, payload("smear.jpg", smear.read_bytes()))
    expect(page.locator(f"{ERROR} strong")).to_have_text("The Triton server is away")
    expect(page.locator(f"{ERROR} p")).to_contain_text(f"127.0.0.1:{forwarder.port}")
    forwarder.start()
    # The client looks for the server once a second.
    wait_until(lambda: finds_boxes_again(page), retry=AssertionError)


def finds_boxes_again(page: Page) -> bool:
    page.locator("#again").click()
    expect(page.locator(".box").first).to_be_visible(timeout=2000)
    return True
