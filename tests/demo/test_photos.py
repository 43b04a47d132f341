"""One photo and several: boxes, counts, sliders, downloads."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from client import Detector
from serving.server.server import EmbeddedServer
from tests.conftest import wait_until
from tests.demo.actions import (
    drop,
    drop_photo,
    payload,
    reencoded,
    set_slider,
    size_of,
)
from tests.demo.program import SAMPLES, SLOW, Forwarder


def shown_size(page: Page) -> tuple[int, int]:
    """Width and height in pixels of the picture that the page shows."""
    image = page.locator("#photos-result .photo img")
    wait_until(lambda: image.evaluate("image => image.complete"))
    return tuple(image.evaluate("image => [image.naturalWidth, image.naturalHeight]"))


def texts(page: Page, selector: str) -> list[str]:
    return page.locator(f"#photos-result {selector}").all_inner_texts()


def table_rows(page: Page) -> list[list[str]]:
    rows = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    return page.locator("#photos-result .table tbody tr").evaluate_all(rows)


def test_a_dropped_photo_shows_boxes_counts_and_time(
    page: Page, smear: Path, trial_server: EmbeddedServer
) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    with Detector(trial_server.grpc_url) as detector:
        expected = detector.detect(smear)
    assert len(expected.detections) > 0
    expect(page.locator("#photos-result .box")).to_have_count(len(expected.detections))
    assert texts(page, ".chip") == [f"{name} {n}" for name, n in expected.counts().items()]
    assert len(table_rows(page)) == len(expected.detections)
    size = f"{expected.width} × {expected.height} px"  # noqa: RUF001 - the page writes it so
    expect(page.locator(".facts")).to_contain_text(size)
    assert re.match(r"\d+ ms round trip", page.locator(".facts").inner_text())


def test_it_tells_the_server_the_versions_and_the_time_of_each_step(
    page: Page, smear: Path, forwarder: Forwarder
) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    server = page.locator("#photos-result .server")
    where = rf"triton [\d.]+ at 127\.0\.0\.1:{forwarder.port}, model ensemble"
    expect(server).to_contain_text(re.compile(where))
    steps = server.locator("li").all_inner_texts()
    models = ("preprocess 1", "ssd 2", "postprocess 1")
    for step, model in zip(steps, models, strict=True):
        assert re.fullmatch(rf"{model} \d+\.\d ms", step), steps


def box_edges(page: Page, place: int) -> list[float]:
    """Left, top, right, bottom of a box on the screen, as parts of the photo's width or height."""
    photo = page.locator("#photos-result .photo img").bounding_box()
    box = page.locator(f"#photos-result .box[data-index='{place}']").bounding_box()
    assert photo
    assert box
    left, top = box["x"] - photo["x"], box["y"] - photo["y"]
    horizontal = [left / photo["width"], (left + box["width"]) / photo["width"]]
    vertical = [top / photo["height"], (top + box["height"]) / photo["height"]]
    return [horizontal[0], vertical[0], horizontal[1], vertical[1]]


def test_boxes_of_a_photo_turned_by_exif_stand_where_the_client_says(
    page: Page, smear: Path, trial_server: EmbeddedServer
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees clockwise
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        turned = reencoded(smear, kind, exif=exif)
        with Detector(trial_server.grpc_url) as detector:
            expected = detector.detect(turned)
        width, height = expected.width, expected.height
        assert (height, width) == size_of(smear)
        drop_photo(page, f"turned.{kind}", turned)
        assert shown_size(page) == (width, height)
        best = expected.detections[0].box
        parts = [best.x1 / width, best.y1 / height, best.x2 / width, best.y2 / height]
        assert box_edges(page, 0) == pytest.approx(parts, abs=0.005)


def test_the_threshold_of_nms_is_the_servers(page: Page) -> None:
    expect(page.locator("#iou input[type=number]")).to_have_value("0.55")


@pytest.mark.parametrize("size", [(24, 18), (4000, 60), (60, 4000)])
def test_boxes_fit_photos_of_any_size(page: Page, smear: Path, size: tuple[int, int]) -> None:
    file = io.BytesIO()
    with Image.open(smear) as image:
        image.resize(size).save(file, "PNG")
    drop_photo(page, "odd.png", file.getvalue())
    set_slider(page, "score", 0.05)
    photo = page.locator("#photos-result .photo").bounding_box()
    assert photo
    for box in page.locator("#photos-result .box").all():
        edges = box.bounding_box()
        assert edges
        left, top = edges["x"] - photo["x"], edges["y"] - photo["y"]
        assert min(left, top) >= -4  # pixels: its own lines
        assert left + edges["width"] <= photo["width"] + 4
        assert top + edges["height"] <= photo["height"] + 4
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_the_files_bytes_arrive_untouched(page: Page, smear: Path, forwarder: Forwarder) -> None:
    content = smear.read_bytes() + b"trailing bytes \0\0"
    drop_photo(page, "untouched.jpg", content)
    assert forwarder.images[-1] == content


def test_other_formats_are_shown_even_where_browsers_cannot(
    page: Page, smear: Path, forwarder: Forwarder
) -> None:
    for kind in ("TIFF", "PNG", "WEBP", "BMP"):
        content = reencoded(smear, kind)
        drop_photo(page, f"smear.{kind}", content)
        assert forwarder.images[-1] == content
        assert shown_size(page) == size_of(smear)


def test_an_example_is_clicked(page: Page, forwarder: Forwarder) -> None:
    page.locator("#photos-examples button").nth(1).click()
    expect(page.locator(".box").first).to_be_visible()
    assert forwarder.images[-1] == SAMPLES[1].read_bytes()


# ---------------------------------------------------------------- sliders


def test_score_and_number_act_without_a_new_inference_as_the_server_would(
    page: Page, trial_server: EmbeddedServer, forwarder: Forwarder
) -> None:
    drop_photo(page, "crowd.jpg", SAMPLES[2].read_bytes())
    asked = len(forwarder.images)
    with Detector(trial_server.grpc_url) as detector:
        whole = detector.detect(SAMPLES[2], score_threshold=0.05).detections
        some = whole[len(whole) // 2].score  # a threshold that is a score
        for score, most in ((0.05, 100), (0.3, 100), (0.5, 3), (some, 100), (0.9, 5), (1, 100)):
            set_slider(page, "score", score)
            set_slider(page, "most", most)
            expected = detector.detect(SAMPLES[2], score_threshold=score, max_detections=most)
            expect(page.locator("#photos-result .box")).to_have_count(len(expected.detections))
            found = [(row[1], row[2]) for row in table_rows(page)]
            assert found == [(d.label, f"{d.score:.3f}") for d in expected.detections]
    assert len(forwarder.images) == asked
    expect(page.locator(".chip")).to_have_text("Nothing found above the score threshold")


def test_the_iou_threshold_asks_the_server(
    page: Page, trial_server: EmbeddedServer, forwarder: Forwarder
) -> None:
    drop_photo(page, "crowd.jpg", SAMPLES[2].read_bytes())
    set_slider(page, "iou", 0.05)
    with Detector(trial_server.grpc_url) as detector:
        expected = detector.detect(SAMPLES[2], iou_threshold=0.05)
    expect(page.locator("#photos-result .box")).to_have_count(len(expected.detections))
    asked = {name: value for name, value in forwarder.asked[-1].items() if name != "timeout"}
    assert asked == pytest.approx({"score_threshold": 0.05, "iou_threshold": 0.05})


# ---------------------------------------------------------------- looking at the boxes


def test_a_click_on_a_class_shows_only_it(page: Page, smear: Path) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    count = page.locator(".box").count()
    chip = page.locator(".chip", has_text="WBC")
    chip.click()
    expect(page.locator(".box")).to_have_count(1)
    assert [row[1] for row in table_rows(page)] == ["WBC"]
    expect(chip).to_have_attribute("aria-pressed", "true")
    assert page.locator(".chip").count() == 3
    chip.click()
    expect(page.locator(".box")).to_have_count(count)


def test_hovering_tells_label_score_and_size(page: Page, smear: Path) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    label, score = table_rows(page)[0][1:3]
    page.locator(".name[data-index='0']").hover()
    told = page.locator("#photos-result .told")
    expect(told).to_contain_text(f"{label}, score {score}, ")
    expect(page.locator(".table tr.picked")).to_contain_text(label)
    page.locator("h1").hover()
    expect(told).to_have_text("")


def test_colours_stay_with_their_classes(page: Page, smear: Path) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    colour = "box => getComputedStyle(box).borderTopColor"
    first = page.locator(".box[title^=RBC]").first.evaluate(colour)
    drop_photo(page, "other.jpg", SAMPLES[1].read_bytes())
    assert page.locator(".box[title^=RBC]").first.evaluate(colour) == first
    assert page.locator(".box[title^=WBC]").first.evaluate(colour) != first


def test_a_histogram_of_sizes_for_each_class(page: Page, smear: Path) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    counts = dict(text.split(" ") for text in texts(page, ".chip"))
    rows = page.locator(".histogram .sizes")
    assert rows.count() == len(counts)
    for place in range(rows.count()):
        label = rows.nth(place).locator("b").inner_text()
        bars = rows.nth(place).locator(".bars i")
        heights = bars.evaluate_all("bars => bars.map(bar => Number(bar.title))")
        assert sum(heights) == int(counts[label])


# ---------------------------------------------------------------- downloads


def downloaded(page: Page, button: str) -> tuple[str, bytes]:
    """Name and content of the file that a button saves."""
    with page.expect_download() as download:
        page.locator("#photos-result .downloads").get_by_role("button", name=button).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_downloads_hold_what_is_on_show(page: Page, smear: Path, forwarder: Forwarder) -> None:
    drop_photo(page, "smear.jpg", smear.read_bytes())
    set_slider(page, "score", 0.9)
    with Detector(f"127.0.0.1:{forwarder.port}") as detector:
        expected = detector.detect(smear, score_threshold=0.9)
    expect(page.locator(".box")).to_have_count(len(expected.detections))
    name, content = downloaded(page, "JSON")
    assert name == "smear.json"
    assert json.loads(content) == [{"file": "smear.jpg", **expected.to_dict()}]
    name, content = downloaded(page, "CSV")
    assert name == "smear.csv"
    rows = list(csv.DictReader(content.decode().splitlines()))
    assert [row["label"] for row in rows] == [found.label for found in expected.detections]
    assert [float(row["x1"]) for row in rows] == [found.box.x1 for found in expected.detections]


def test_the_picture_is_drawn_in_the_photos_own_size(page: Page, smear: Path) -> None:
    file = io.BytesIO()
    with Image.open(smear) as image:
        image.resize((2400, 1800)).save(file, "JPEG")
    drop_photo(page, "large.jpg", file.getvalue())
    assert shown_size(page) == (1600, 1200)
    name, content = downloaded(page, "Picture")
    assert name == "large-detections.jpg"
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (2400, 1800)
        expected = page.locator(".box[title^=WBC]").evaluate("box => box.style.cssText")
        left = float(re.findall(r"left: ([\d.]+)%", expected)[0]) / 100
        top = float(re.findall(r"top: ([\d.]+)%", expected)[0]) / 100
        edge = picture.getpixel((round(2400 * left), round(1800 * top) + 100))
    assert edge == pytest.approx((230, 159, 0), abs=40)  # the colour of WBC


# ---------------------------------------------------------------- several


def test_several_photos_are_answered_counted_and_walked_through(
    page: Page, trial_server: EmbeddedServer
) -> None:
    broken = payload("notes.txt", b"no photo at all")
    files = [payload(path.name, path.read_bytes()) for path in SAMPLES]
    drop(page, *files, broken)
    strip = page.locator("#photos-result .strip")
    expect(strip.locator("li")).to_have_count(len(files) + 1)
    expect(strip.locator("p")).to_contain_text(f"{len(files) + 1} photos")
    with Detector(trial_server.grpc_url) as detector:
        found = [detector.detect(path).detections for path in SAMPLES]
    counts = strip.locator("li b").all_inner_texts()
    assert counts == [*(str(len(each)) for each in found), "failed"]
    strip.locator("button").nth(2).click()
    expect(page.locator(".box")).to_have_count(len(found[2]))
    expect(page.locator(".facts")).to_contain_text(SAMPLES[2].name)
    strip.locator("button").nth(len(files)).click()
    expect(page.locator("#photos-result .message.error strong")).to_have_text(
        "notes.txt cannot be used"
    )
    strip.locator("button").first.click()
    content = json.loads(downloaded(page, "JSON")[1])
    assert [each["file"] for each in content] == [*(path.name for path in SAMPLES), "notes.txt"]
    assert [len(each["detections"]) for each in content[:-1]] == [len(each) for each in found]
    assert "error" in content[-1]


def test_too_many_photos_get_a_readable_message(page: Page) -> None:
    drop(page, *(payload(f"{number}.jpg", b"no photo") for number in range(65)))
    expect(page.locator("#photos-result .message.error strong")).to_have_text(
        "65 photos are too many for this page"
    )


def test_one_photo_after_another_can_be_dropped(page: Page, smear: Path) -> None:
    for name in ("first.jpg", "second.jpg"):
        drop_photo(page, name, smear.read_bytes())


def test_a_slow_answer_keeps_nobody_else_waiting(
    open_page: Callable[..., Page], smear: Path, forwarder: Forwarder
) -> None:
    slow, quick = open_page(), open_page()
    forwarder.passing.clear()
    drop(slow, payload("slow.jpg", smear.read_bytes() + SLOW))
    wait_until(lambda: forwarder.images[-1].endswith(SLOW))
    drop_photo(quick, "quick.jpg", smear.read_bytes())
    expect(slow.locator(".box")).to_have_count(0)
    forwarder.passing.set()
    expect(slow.locator(".facts")).to_contain_text("slow.jpg")
