import io
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from client import Box, Detection, InvalidImage, drawing
from tests.client.bombs import huge_png
from tests.client.conftest import save_photo, turned
from tests.conftest import SmallDisk
from tests.model_repository.conftest import tiff_of_many_tags

SIZES = [(12, 16), (100, 100), (480, 640), (640, 480), (3000, 4000), (40, 3000)]


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def changed(picture: np.ndarray) -> np.ndarray:
    """Return where a picture differs from grey."""
    return np.any(picture != 128, axis=2)


def test_no_detections_leave_an_equal_copy() -> None:
    image = grey(20, 30)
    picture = drawing.draw(image, [])
    assert np.array_equal(picture, image)
    assert picture is not image


def test_the_input_stays_as_it_was(cell: Detection) -> None:
    image = grey(480, 640)
    drawing.draw(image, [cell])
    assert not changed(image).any()


def test_a_box_is_drawn_in_its_classs_colour(cell: Detection) -> None:
    picture = drawing.draw(grey(480, 640), [cell])
    red, green, blue = drawing.colour(cell.class_id)
    assert picture[70, 10].tolist() == [blue, green, red]  # the box's left side
    assert not changed(picture)[70, 60]  # its inside


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_lines_and_letters_grow_with_the_picture(height: int, width: int) -> None:
    shorter = min(height, width)
    (_, letters), _ = cv2.getTextSize("X", drawing.FONT, drawing.font_scale(height, width), 1)
    assert max(1, shorter / 500) <= drawing.line_width(height, width) <= max(1, shorter / 200)
    assert max(8, shorter / 60) <= letters <= max(14, shorter / 30)


def test_many_labels_do_not_hide_a_picture() -> None:
    found = [
        Detection("RBC", 0, 0.9, Box(x, y, x + 90, y + 90))
        for x in range(0, 4000, 100)
        for y in range(20, 3000, 100)
    ]
    picture = drawing.draw(grey(3000, 4000), found)
    hidden = changed(picture).mean()
    assert hidden < 0.35  # labels an eighth, the rest are lines
    assert drawing.font_scale(3000, 4000, 1200) < drawing.font_scale(3000, 4000, 20)
    assert drawing.font_scale(480, 640, 100) == drawing.font_scale(480, 640, 1000)  # readable still


@pytest.mark.parametrize(("height", "width"), [(480, 640), (1200, 1600)])
@pytest.mark.parametrize("place", ["top left", "top right", "bottom left", "bottom right"])
def test_a_label_at_the_edge_stays_inside(height: int, width: int, place: str) -> None:
    x = 0 if "left" in place else width - 10
    y = 0 if "top" in place else height - 10
    at_edge = Detection("Platelets", 2, 0.9, Box(x, y, x + 10, y + 10))
    inside = Detection("Platelets", 2, 0.9, Box(width / 2, height / 2, width / 2, height / 2))
    filled = [
        np.all(drawing.draw(grey(height, width), [d]) == colour_bgr(2), axis=2).sum()
        for d in (at_edge, inside)
    ]
    assert filled[0] >= 0.97 * filled[1]


def colour_bgr(class_id: int) -> tuple[int, ...]:
    return drawing.colour(class_id)[::-1]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (12, 16), (5000, 3)])
def test_a_picture_too_small_for_its_label_is_no_obstacle(height: int, width: int) -> None:
    found = Detection("Platelets", 2, 0.9, Box(0, 0, width, height))
    assert drawing.draw(grey(height, width), [found]).shape == (height, width, 3)


def test_a_box_outside_the_picture_is_no_obstacle() -> None:
    found = Detection("RBC", 0, 0.9, Box(-50, -50, 5000, 5000))
    assert drawing.draw(grey(48, 64), [found]).shape == (48, 64, 3)


def test_a_label_of_other_letters_is_no_obstacle(cell: Detection) -> None:
    found = Detection("Zelle \u7d30\u80de", 0, 0.9, cell.box)
    assert changed(drawing.draw(grey(480, 640), [found])).any()


def test_the_best_is_on_top(cell: Detection) -> None:
    better = Detection("WBC", 1, 0.9, cell.box)
    for order in ([cell, better], [better, cell]):
        assert drawing.draw(grey(480, 640), order)[70, 10].tolist() == list(colour_bgr(1))


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_another_array_is_refused_with_what_it_is(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be uint8 with shape"):
        drawing.draw(image, [])


def test_colours_are_stable_and_distinct() -> None:
    colours = [drawing.colour(class_id) for class_id in range(100)]
    assert len(set(colours)) == 100
    assert colours == [drawing.colour(class_id) for class_id in range(100)]
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)


def test_a_photo_is_read_upright(tmp_path: Path) -> None:
    photo = save_photo(tmp_path / "photo.jpg", height=20, width=30)
    assert drawing.read(photo).shape == (20, 30, 3)
    assert drawing.read(turned(photo.read_bytes())).shape == (30, 20, 3)


@pytest.mark.parametrize("suffix", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_format_is_read_upright(suffix: str, orientation: int) -> None:
    image = Image.new("RGB", (32, 16))
    image.paste((255, 255, 255), (0, 0, 16, 8))  # the stored picture's top left is white
    exif = image.getexif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, suffix, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("L")) > 128
    picture = drawing.read(file.getvalue())
    assert np.array_equal(picture[..., 0] > 128, expected)


def test_an_animated_png_is_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV 4.11 reads freed memory on some, and the process dies of it."""
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(cv2, "imdecode", None)
    assert drawing.read(file.getvalue())[0, 0].tolist() == [0, 0, 255]


def test_a_grey_photo_is_read_in_colour() -> None:
    png = cv2.imencode(".png", np.zeros((2, 3), np.uint8))[1].tobytes()
    assert drawing.read(png).shape == (2, 3, 3)


@pytest.mark.parametrize("data", [b"", b"no image", b"RIFF\xff\0\0\0WEBPVP8 no image"])
def test_what_cannot_be_decoded_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage, match="cannot be decoded"):
        drawing.read(data)


def test_a_small_file_of_a_huge_picture_is_not_decoded() -> None:
    file = huge_png()
    assert len(file) < 120_000
    with pytest.raises(InvalidImage, match=r"30000x30000 is 900\.0 megapixels, the limit is 64\.0"):
        drawing.read(file)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_the_limit_of_pixels_holds_in_each_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    drawing.write(grey(20, 30), path)
    assert drawing.read(path, max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(InvalidImage, match=r"30x20 is 0\.0 megapixels, the limit is 0\.0"):
        drawing.read(path, max_pixels=599)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_of_many_tags_takes_no_memory(kind: str) -> None:
    """800 KB of which Pillow makes 1 GB."""
    still, moved = Image.new("RGB", (8, 6)), Image.new("RGB", (8, 6), "red")
    file = io.BytesIO()
    still.save(file, kind, save_all=True, append_images=[moved], exif=tiff_of_many_tags())
    tracemalloc.start()
    assert drawing.read(file.getvalue()).shape == (6, 8, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize("suffix", [".ppm", ".hdr", ".ras"])
def test_what_the_server_does_not_read_is_not_decoded_here_either(suffix: str) -> None:
    file = cv2.imencode(suffix, grey(20, 30))[1].tobytes()
    with pytest.raises(InvalidImage, match="JPEG, PNG, BMP, WebP or TIFF expected"):
        drawing.read(file)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".TIFF"])
def test_a_picture_is_saved_in_the_format_of_its_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    drawing.write(grey(20, 30), path)
    assert drawing.read(path).shape == (20, 30, 3)


def test_a_full_disk_leaves_the_older_picture(small_disk: SmallDisk) -> None:
    path = small_disk.folder / "a.png"
    drawing.write(grey(20, 30), path)
    before = small_disk.contents()
    small_disk.fill()
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    with pytest.raises(OSError, match="No space left on device"):
        drawing.write(noise, path)
    assert small_disk.contents() == before
