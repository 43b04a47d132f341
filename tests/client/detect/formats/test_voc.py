from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import Box, Detection
from client.detect.formats.voc import write_voc
from client.detect.journal import Entry
from client.inbox.voc_xml import whole_pixels
from tests.client.detect.formats.conftest import FOUND, entry
from training.data import check
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders


def test_nothing_is_two_empty_folders(tmp_path: Path) -> None:
    write_voc([], tmp_path / "voc")
    assert sorted(path.name for path in (tmp_path / "voc").rglob("*")) == [
        "Annotations",
        "JPEGImages",
    ]


def test_training_reads_it_back(entries: list[Entry], tmp_path: Path) -> None:
    write_voc(entries, tmp_path / "voc")
    assert check.check_folders(check.CheckSettings((tmp_path / "voc",), val=0)) == 0
    found = Folders(FolderSettings((tmp_path / "voc",), val=0)).read("train").annotations
    assert [item.image_id for item in found] == ["a-photo", "b-empty", "b-photo"]
    first, empty, second = found
    assert first.labels == ("RBC", "Platelets")
    np.testing.assert_allclose(first.boxes_xyxy, [[10, 6, 30, 40], [0, 0, 64, 48]])
    assert empty.labels == ()
    assert second.labels == ("RBC",)
    assert first.image_path.read_bytes() == Path(entries[0]["file"]).read_bytes()


def test_corners_count_from_1_and_the_last_pixel_is_in(tmp_path: Path) -> None:
    """The whole photo is 1 to width and 1 to height."""
    (tmp_path / "a.jpg").touch()
    write_voc([entry(tmp_path / "a.jpg", FOUND[1])], tmp_path / "voc")
    root = ElementTree.parse(tmp_path / "voc/Annotations/a.xml").getroot()
    assert [(element.tag, element.text) for element in root.iterfind("object/bndbox/*")] == [
        ("xmin", "1"),
        ("ymin", "1"),
        ("xmax", "64"),
        ("ymax", "48"),
    ]
    assert root.findtext("object/confidence") == "0.5000"
    assert root.findtext("filename") == "a.jpg"


@given(st.data())
def test_any_box_is_read_back_up_to_the_rounding(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 5000))
    ends = st.floats(0, size, width=32)
    start, end = sorted((data.draw(ends), data.draw(ends)))
    first, last = whole_pixels(start, end, size)
    assert 0 <= first < last - 1 < size
    wide = end - start >= 2.5
    assert [first, last] == pytest.approx([start, end], abs=0.5 if wide else 2.5)


def test_a_label_may_hold_any_sign(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    found = Detection("<red> & wäht", 0, 0.5, Box(1, 2, 30, 40))
    write_voc([entry(tmp_path / "a.jpg", found)], tmp_path / "voc")
    root = ElementTree.parse(tmp_path / "voc/Annotations/a.xml").getroot()
    assert root.findtext("object/name") == "<red> & wäht"
