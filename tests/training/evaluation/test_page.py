"""The page of the report in a real Chromium."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from training.data import records
from training.evaluation import report, score
from training.evaluation.findings import Findings
from training.evaluation.page import CORRECT
from training.evaluation.score import Detected, Truth

# F1, precision over recall, the training, the worst, and those of what to do next.
PICTURES = 1 + 3 + 2 + 2 * 4 + 3


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_in_a_browser(browser: Browser, page_path: Path, width: int, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page, requested, errors = context.new_page(), [], []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(page_path.as_uri())
    page.wait_for_load_state("load")
    images = page.locator("img").evaluate_all("all => all.map(image => image.naturalWidth)")
    assert len(images) == PICTURES
    assert min(images) > 0
    assert page.evaluate("document.documentElement.scrollWidth") == width
    folder = page_path.parent.as_uri()
    assert [url for url in requested if not url.startswith((folder, "data:"))] == []
    _check_links(page, page_path.parent)
    assert errors == []
    context.close()


def _check_links(page: Page, folder: Path) -> None:
    links = page.locator("a").evaluate_all("all => all.map(link => link.getAttribute('href'))")
    correct = [link.removeprefix(CORRECT) for link in links if link.startswith(CORRECT)]
    links = [link for link in links if not link.startswith(CORRECT)]
    assert len(links) == PICTURES + 4 + 1  # the worst photos themselves, and report.json
    assert [link for link in links if not (folder / link).is_file()] == []
    assert correct == sorted(path.name for path in (folder / "photos").iterdir())


def test_names_cannot_break_the_page(found: Findings, tmp_path: Path) -> None:
    labels = ("<b>", "&amp;", "{{ found }}")
    truth, detected = list(found.truth.values()), list(found.detected.values())
    metrics = score.score_detections(truth, detected, labels)
    hostile = records.Manifest(**vars(found.manifest) | {"labels": labels})
    found = Findings.of(hostile, truth, detected, metrics)
    text = report.write_report(tmp_path / "report", found).read_text()
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert "&amp;amp;" in text
    assert "{{ found }}" in text
    assert "Training</h2>" not in text


def test_nothing_detected_and_nothing_annotated(found: Findings, tmp_path: Path) -> None:
    manifest, truth = found.manifest, list(found.truth.values())
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0), np.zeros(0, int))
    detected = [Detected(image.image_id, *nothing) for image in truth]
    empty = [
        Truth(image.image_id, 640, 480, nothing[0], nothing[2], nothing[1] > 0) for image in truth
    ]
    for name, objects in (("some", truth), ("none", empty)):
        metrics = score.score_detections(objects, detected, manifest.labels)
        nothing_found = Findings.of(manifest, objects, detected, metrics)
        text = report.write_report(tmp_path / name, nothing_found).read_text()
        assert ("No mistakes" in text) == (name == "none")
