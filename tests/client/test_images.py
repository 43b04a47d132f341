import array
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from client import InvalidImage, images


def test_a_file_is_read_untouched(tmp_path: Path) -> None:
    content = b"\xff\xd8 anything \0\0"
    (tmp_path / "a.jpg").write_bytes(content)
    assert images.encoded(tmp_path / "a.jpg") == content
    assert images.encoded(str(tmp_path / "a.jpg")) == content


@pytest.mark.parametrize("content", [b"", b"ends in zeros\0\0"])
def test_bytes_stay_as_they_are(content: bytes) -> None:
    assert images.encoded(content) == content
    assert images.encoded(bytearray(content)) == content
    assert images.encoded(memoryview(content)) == content


def test_an_rgb_array_becomes_a_png_of_the_same_pixels() -> None:
    array = np.random.default_rng(1).integers(0, 255, (5, 7, 3), np.uint8)
    png = np.frombuffer(images.encoded(array), np.uint8)
    assert np.array_equal(cv2.imdecode(png, cv2.IMREAD_COLOR)[..., ::-1], array)


def test_a_grey_array_stays_grey() -> None:
    array = np.arange(35, dtype=np.uint8).reshape(5, 7)
    png = np.frombuffer(images.encoded(array), np.uint8)
    assert np.array_equal(cv2.imdecode(png, cv2.IMREAD_UNCHANGED), array)


def test_a_view_of_an_array_will_do() -> None:
    array = np.zeros((9, 9, 3), np.uint8)[::-2, 1:4]
    png = np.frombuffer(images.encoded(array), np.uint8)
    assert cv2.imdecode(png, cv2.IMREAD_COLOR).shape == (5, 3, 3)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((0, 0, 3), np.uint8), r"uint8 with shape \[0, 0, 3\]"),
        (np.zeros((2, 2, 3), np.float32), r"float32 with shape \[2, 2, 3\]"),
        (np.zeros((2, 2, 4), np.uint8), r"uint8 with shape \[2, 2, 4\]"),
        (np.zeros(4, np.uint8), r"uint8 with shape \[4\]"),
    ],
)
def test_another_array_is_refused_with_what_it_is(array: np.ndarray, found: str) -> None:
    with pytest.raises(InvalidImage, match=found):
        images.encoded(array)


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidImage, match=r"missing\.jpg: no such file"):
        images.encoded(tmp_path / "missing.jpg")
    with pytest.raises(InvalidImage, match="a folder, expected an image file"):
        images.encoded(tmp_path)
    with pytest.raises(InvalidImage, match="name too long"):
        images.encoded("a" * 5000)
    with pytest.raises(InvalidImage, match="null"):
        images.encoded("a\0b")


def test_a_file_too_large_for_a_request_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(3 * 2**30)  # sparse: takes no space
    says = r"huge\.jpg: 3,221,225,472 bytes, more than the 64,000,000 that are sent; save it"
    with pytest.raises(InvalidImage, match=says):
        images.encoded(tmp_path / "huge.jpg")


def test_the_limit_is_the_last_size_that_is_sent(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(bytes(10))
    for image in (bytes(10), bytearray(10), memoryview(bytes(10)), tmp_path / "a.jpg"):
        assert images.encoded(image, 10) == bytes(10)
        with pytest.raises(InvalidImage, match=r"10 bytes, more than the 9 .* \(max_bytes\)"):
            images.encoded(image, 9)


def test_a_view_of_larger_items_is_measured_in_bytes() -> None:
    with pytest.raises(InvalidImage, match="12 bytes"):
        images.encoded(memoryview(array.array("i", [1, 2, 3])), 10)


def test_an_arrays_png_counts() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    with pytest.raises(InvalidImage, match=r"the array: .* bytes, more than the 1,000"):
        images.encoded(noise, 1000)


def test_a_device_without_an_end_is_not_read_for_ever() -> None:
    with pytest.raises(InvalidImage, match="/dev/zero: 1,001 bytes, more than the 1,000"):
        images.encoded("/dev/zero", 1000)


def test_another_type_is_the_callers_mistake() -> None:
    with pytest.raises(TypeError, match="but got NoneType"):
        images.encoded(None)  # type: ignore[arg-type]


def test_without_opencv_an_array_is_refused_with_the_remedy() -> None:
    program = """
import sys
sys.modules["cv2"] = None
import numpy
from client import InvalidImage, images
try:
    images.encoded(numpy.zeros((1, 1, 3), numpy.uint8))
except InvalidImage as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install opencv-python-headless" in done.stdout
