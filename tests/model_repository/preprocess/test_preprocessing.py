"""Files to network inputs: every format and mode, upright, whole, and never too large."""

import struct
import tracemalloc
from collections.abc import Callable
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

LIMIT = 64_000_000
FORMATS = ["JPEG", "PNG", "BMP", "WEBP", "TIFF"]
# How the upright picture lies in a file of each EXIF orientation.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}


@pytest.fixture
def preprocessing(load: Callable[..., ModuleType]) -> Any:
    load("preprocess", "image_header")
    return load("preprocess", "preprocessing")


@pytest.fixture
def resized(picture: np.ndarray) -> np.ndarray:
    """What the network should get of the picture, int32 so that differences have a sign."""
    return cv2.resize(picture, (40, 30), interpolation=cv2.INTER_LINEAR).astype(np.int32)


def test_no_files(preprocessing: Any) -> None:
    images, sizes = preprocessing.preprocess([], 30, 40, LIMIT)

    assert images.shape == (0, 30, 40, 3)
    assert sizes.shape == (0, 2)


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(
    preprocessing: Any, encode: Any, picture: np.ndarray, resized: np.ndarray, kind: str
) -> None:
    images, sizes = preprocessing.preprocess([encode(picture, kind)], 30, 40, LIMIT)

    assert images.dtype == np.uint8
    assert sizes.dtype == np.int32
    assert sizes.tolist() == [[90, 120]]
    assert np.abs(images[0] - resized).mean() < (4 if kind in ("JPEG", "WEBP") else 0.01)


def test_files_of_different_formats_and_sizes(
    preprocessing: Any, encode: Any, picture: np.ndarray
) -> None:
    files = [encode(picture, "PNG"), encode(picture[:50, :60], "BMP"), encode(picture, "JPEG")]

    images, sizes = preprocessing.preprocess(files, 30, 40, LIMIT)

    assert images.shape == (3, 30, 40, 3)
    assert sizes.tolist() == [[90, 120], [50, 60], [90, 120]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(
    preprocessing: Any,
    encode: Any,
    picture: np.ndarray,
    resized: np.ndarray,
    kind: str,
    orientation: int,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](picture))
    options = {"lossless": True} if kind == "WEBP" else {}

    images, sizes = preprocessing.preprocess(
        [encode(stored, kind, exif=exif, **options)], 30, 40, LIMIT
    )

    assert sizes.tolist() == [[90, 120]]
    assert np.abs(images[0] - resized).mean() < (4 if kind == "JPEG" else 1)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\xff" * 99])
def test_broken_exif_is_no_reason_to_refuse(
    preprocessing: Any, encode: Any, picture: np.ndarray, exif: bytes
) -> None:
    assert preprocessing.preprocess([encode(picture, "JPEG", exif=exif)], 30, 40, LIMIT)


@pytest.mark.slow
def test_hostile_exif_takes_no_memory(
    preprocessing: Any, encode: Any, picture: np.ndarray, exif_bomb: bytes
) -> None:
    jpeg = encode(picture, "JPEG")
    parts = [b"Exif\0\0" + exif_bomb[at : at + 65000] for at in range(0, len(exif_bomb), 65000)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)
    files = [jpeg[:2] + segments + jpeg[20:]]
    files += [encode(picture, kind, exif=exif_bomb) for kind in ("PNG", "WEBP")]
    tracemalloc.start()

    _, sizes = preprocessing.preprocess(files, 30, 40, LIMIT)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sizes.tolist() == [[90, 120]] * 3
    assert peak < 100e6


def test_a_jpeg_may_hold_fill_bytes_and_junk_between_segments(
    preprocessing: Any, encode: Any, picture: np.ndarray
) -> None:
    jpeg = encode(picture, "JPEG")
    for between in (b"\xff" * 9, b"junk", b"\xff\xd0", b"\xff\xff\0"):
        file = jpeg[:20] + between + jpeg[20:]

        _, sizes = preprocessing.preprocess([file], 30, 40, LIMIT)

        assert sizes.tolist() == [[90, 120]]


def test_bmp_from_top_to_bottom_and_of_the_oldest_kind(
    preprocessing: Any, encode: Any, picture: np.ndarray
) -> None:
    file = encode(picture, "BMP")
    rows = file[54:]  # 120 pixels a row need no padding
    downwards = np.frombuffer(rows, np.uint8).reshape(90, -1)[::-1].tobytes()
    top_first = file[:22] + struct.pack("<i", -90) + file[26:54] + downwards
    core = file[:10] + struct.pack("<IIHHHH", 26, 12, 120, 90, 1, 24) + rows

    images, sizes = preprocessing.preprocess([file, top_first, core], 90, 120, LIMIT)

    assert sizes.tolist() == [[90, 120]] * 3
    for image in images:
        np.testing.assert_array_equal(image, picture)


def test_orientation_that_makes_no_sense(
    preprocessing: Any, encode: Any, picture: np.ndarray
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 77

    _, sizes = preprocessing.preprocess([encode(picture, "JPEG", exif=exif)], 30, 40, LIMIT)

    assert sizes.tolist() == [[90, 120]]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("1", "L", "P", "LA", "RGBA")),
        *(("TIFF", mode) for mode in ("1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr")),
        *(("JPEG", mode) for mode in ("L", "CMYK")),
        *(("BMP", mode) for mode in ("1", "L", "P", "RGBA")),
        *(("WEBP", mode) for mode in ("RGBA",)),
    ],
)
def test_modes(preprocessing: Any, encode: Any, picture: np.ndarray, kind: str, mode: str) -> None:
    image = Image.fromarray(picture).convert(mode)
    expected = np.asarray(image.convert("RGB"), np.int32)

    images, _ = preprocessing.preprocess([encode(image, kind)], 90, 120, LIMIT)

    assert np.abs(images[0] - expected).mean() < (6 if kind in ("JPEG", "WEBP") else 1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_become_8(preprocessing: Any, encode: Any, picture: np.ndarray, kind: str) -> None:
    gray = picture[..., 0]

    images, _ = preprocessing.preprocess(
        [encode(gray.astype(np.uint16) * 257, kind)], 90, 120, LIMIT
    )

    np.testing.assert_array_equal(images[0], np.repeat(gray[..., None], 3, axis=2))


def test_16_bit_colour(preprocessing: Any, picture: np.ndarray) -> None:
    deep = picture[..., ::-1].astype(np.uint16) * 257  # OpenCV writes BGR
    for suffix in (".png", ".tiff"):
        file = cv2.imencode(suffix, deep)[1].tobytes()

        images, _ = preprocessing.preprocess([file], 90, 120, LIMIT)

        np.testing.assert_array_equal(images[0], picture)


def test_alpha_is_dropped(preprocessing: Any, encode: Any, picture: np.ndarray) -> None:
    transparent = np.dstack([picture, np.zeros_like(picture[..., 0])])

    images, _ = preprocessing.preprocess([encode(transparent, "PNG")], 90, 120, LIMIT)

    np.testing.assert_array_equal(images[0], picture)


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "PNG", "MPO"])
def test_the_first_of_several_frames(
    preprocessing: Any, encode: Any, picture: np.ndarray, resized: np.ndarray, kind: str
) -> None:
    other = Image.fromarray(255 - picture)
    options = {"lossless": True} if kind == "WEBP" else {}
    file = encode(picture, kind, save_all=True, append_images=[other, other], **options)

    images, _ = preprocessing.preprocess([file], 30, 40, LIMIT)

    assert np.abs(images[0] - resized).mean() < (4 if kind == "MPO" else 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (65000, 2)])
def test_unusual_sizes(preprocessing: Any, encode: Any, size: tuple[int, int]) -> None:
    images, sizes = preprocessing.preprocess(
        [encode(Image.new("RGB", size, (10, 20, 30)), "PNG")], 30, 40, LIMIT
    )

    assert sizes.tolist() == [[size[1], size[0]]]
    assert (images[0] == (10, 20, 30)).all()


@pytest.fixture
def large(picture: np.ndarray) -> Callable[[int, int], np.ndarray]:
    """large(width, height): the picture at another size."""
    return lambda width, height: cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [(640, 480), (641, 487), (650, 490), (163, 125), (160, 120)])
def test_large_jpeg_is_as_if_averaged(
    preprocessing: Any,
    encode: Any,
    large: Any,
    size: tuple[int, int],
    orientation: int,
    options: dict[str, Any],
) -> None:
    """Also where the reduced image reaches beyond the photo: nothing is moved or stretched."""
    upright = large(*size)
    upright[size[1] * 2 // 3 :, :, 0] = 255  # a stretched or moved one has more or less of these
    upright[:, size[0] * 2 // 3 :, 1] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](upright))
    file = encode(stored, "JPEG", quality=95, exif=exif, **options)
    images, sizes = preprocessing.preprocess([file], 30, 40, LIMIT)

    assert sizes.tolist() == [[size[1], size[0]]]
    averaged = cv2.resize(upright, (40, 30), interpolation=cv2.INTER_AREA).astype(np.int32)
    difference = images[0] - averaged
    assert np.abs(difference).mean() < 3
    assert np.abs(difference.mean(axis=(0, 1))).max() < 1


@pytest.mark.parametrize(
    ("size", "reduction"),
    [((1199, 4000), 1), ((1200, 1200), 2), ((1500, 1600), 4), ((4000, 2999), 4), ((4000, 3000), 8)],
)
def test_more_than_the_target_is_left(
    preprocessing: Any, size: tuple[int, int], reduction: int
) -> None:
    header = preprocessing.Header(*size, orientation=1)
    assert preprocessing.choose_reduction(header, (300, 300)) == reduction


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_truncated_large_jpeg(
    preprocessing: Any, encode: Any, large: Any, options: dict[str, Any]
) -> None:
    file = encode(large(640, 480), "JPEG", **options)
    for cut in cuts(len(file)):
        with pytest.raises(preprocessing.ImageError, match="truncated or damaged JPEG"):
            preprocessing.preprocess([file[:cut]], 30, 40, LIMIT)


def cuts(length: int) -> range:
    """Where to cut a file off: all over it, but not in the few bytes behind the last pixel."""
    return range(12, length - 30, max(1, length // 40))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"restart_marker_rows": 1}),
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
    ],
)
def test_truncated(
    preprocessing: Any, encode: Any, picture: np.ndarray, kind: str, options: dict[str, Any]
) -> None:
    file = encode(picture, kind, **options)
    for cut in cuts(len(file)):
        with pytest.raises(preprocessing.ImageError, match="image 0: truncated or damaged"):
            preprocessing.preprocess([file[:cut]], 30, 40, LIMIT)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_truncated_tiff_whose_pixels_libtiff_would_make_up(
    preprocessing: Any, encode: Any, picture: np.ndarray, mode: str
) -> None:
    file = encode(Image.fromarray(picture).convert(mode), "TIFF", compression="tiff_lzw")
    for cut in cuts(len(file)):
        with pytest.raises(preprocessing.ImageError, match="truncated or damaged TIFF"):
            preprocessing.preprocess([file[:cut]], 30, 40, LIMIT)


def test_truncated_jpeg_with_a_whole_thumbnail(
    preprocessing: Any, encode: Any, picture: np.ndarray
) -> None:
    file = encode(picture, "JPEG")
    exif = b"Exif\0\0II*\0\x08\0\0\0" + bytes(6) + encode(picture[:30, :40], "JPEG")
    file = file[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + file[2:]
    assert preprocessing.preprocess([file], 30, 40, LIMIT)
    for cut in cuts(len(file)):
        with pytest.raises(preprocessing.ImageError, match="truncated or damaged JPEG"):
            preprocessing.preprocess([file[:cut]], 30, 40, LIMIT)


@pytest.mark.parametrize("kind", FORMATS)
def test_bytes_after_the_end_do_not_matter(
    preprocessing: Any, encode: Any, picture: np.ndarray, kind: str
) -> None:
    file = encode(picture, kind)

    images, _ = preprocessing.preprocess([file, file + b"\xff\xd8 and more" * 99], 30, 40, LIMIT)

    np.testing.assert_array_equal(images[0], images[1])


def test_hostile_files(preprocessing: Any, hostile_files: dict[str, bytes]) -> None:
    for name, file in hostile_files.items():
        with pytest.raises(preprocessing.ImageError) as caught:
            preprocessing.preprocess([file], 30, 40, LIMIT)
        assert len(str(caught.value)) < 120, name


def test_errors_name_the_image(preprocessing: Any, encode: Any, picture: np.ndarray) -> None:
    good = encode(picture, "PNG")
    for bad, message in {
        b"": "image 2: empty",
        b"hello": "image 2: not an image (JPEG, PNG, BMP, WebP or TIFF expected)",
        good[:-60]: "image 2: truncated or damaged PNG",
    }.items():
        with pytest.raises(preprocessing.ImageError) as caught:
            preprocessing.preprocess([good, good, bad, b""], 30, 40, LIMIT)
        assert str(caught.value) == message


def test_too_many_pixels(preprocessing: Any, encode: Any, picture: np.ndarray) -> None:
    file = encode(picture, "PNG")
    assert preprocessing.preprocess([file], 30, 40, 90 * 120)

    with pytest.raises(preprocessing.ImageError) as caught:
        preprocessing.preprocess([file], 30, 40, 90 * 120 - 1)

    assert str(caught.value) == "image 0: 120x90 is 0.0 megapixels, the limit is 0.0"


def test_the_message_about_too_many_pixels(
    preprocessing: Any, hostile_files: dict[str, bytes]
) -> None:
    for kind in ("PNG", "TIFF"):
        with pytest.raises(preprocessing.ImageError) as caught:
            preprocessing.preprocess(
                [hostile_files[f"{kind} that claims 400 megapixels"]], 9, 9, LIMIT
            )
        assert str(caught.value) == "image 0: 20000x20000 is 400.0 megapixels, the limit is 64.0"


@pytest.mark.slow
def test_the_largest_image(preprocessing: Any, bomb: bytes) -> None:
    images, sizes = preprocessing.preprocess([bomb], 30, 40, LIMIT)

    assert sizes.tolist() == [[8000, 8000]]
    assert not images.any()


@pytest.mark.parametrize(
    ("size", "content"),
    [
        ((120, 90), (slice(20, 140), slice(0, 160))),
        ((90, 120), (slice(0, 160), slice(20, 140))),
        ((50, 50), (slice(0, 160), slice(0, 160))),
        ((1280, 320), (slice(60, 100), slice(0, 160))),
        ((7000, 1), (slice(79, 81), slice(0, 160))),
        ((1, 7000), (slice(0, 160), slice(79, 81))),
        ((40000, 2), (slice(79, 81), slice(0, 160))),
    ],
)
def test_a_letterboxed_photo_keeps_its_shape_in_the_middle_of_grey(
    preprocessing: Any, encode: Any, size: tuple[int, int], content: tuple[slice, slice]
) -> None:
    file = encode(Image.new("RGB", size, (10, 20, 30)), "PNG")
    images, sizes = preprocessing.preprocess([file], 160, 160, LIMIT, "letterbox")

    expected = np.full((160, 160, 3), preprocessing.PADDING, np.uint8)
    expected[content] = (10, 20, 30)
    np.testing.assert_array_equal(images[0], expected)
    assert sizes.tolist() == [[size[1], size[0]]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(120, 90), (640, 481)])
def test_a_turned_photo_is_letterboxed_as_the_upright_one(
    preprocessing: Any, encode: Any, large: Any, size: tuple[int, int], orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = large(*size)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    files = [encode(upright, "JPEG", quality=100), encode(stored, "JPEG", quality=100, exif=exif)]
    images, sizes = preprocessing.preprocess(files, 60, 60, LIMIT, "letterbox")

    assert sizes.tolist() == [[size[1], size[0]]] * 2
    assert np.abs(images[0].astype(int) - images[1]).mean() < 1
    assert (images[:, :7] == preprocessing.PADDING).all()
    assert (images[:, -7:] == preprocessing.PADDING).all()


@pytest.mark.parametrize("size", [(640, 480), (650, 490), (4032, 3024), (1001, 3000)])
def test_a_large_letterboxed_jpeg_is_as_if_averaged(
    preprocessing: Any, encode: Any, large: Any, size: tuple[int, int]
) -> None:
    """Decoded at a reduced scale, and nothing is moved."""
    image = large(*size)
    image[size[1] * 2 // 3 :, :, 0] = 255
    image[:, size[0] * 2 // 3 :, 1] = 255
    images, _ = preprocessing.preprocess(
        [encode(image, "JPEG", quality=95)], 60, 60, LIMIT, "letterbox"
    )
    side = max(size)
    canvas = np.full((side, side, 3), preprocessing.PADDING, np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = image
    averaged = cv2.resize(canvas, (60, 60), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(images[0] - averaged).mean() < 3


def test_a_long_jpeg_is_reduced_by_what_it_takes_up(preprocessing: Any) -> None:
    header = preprocessing.Header(4000, 300, orientation=1)
    assert preprocessing.choose_reduction(header, (300, 300)) == 1
    assert preprocessing.fit_inside(header, (300, 300)) == pytest.approx((300, 22.5))
    assert preprocessing.choose_reduction(header, (300, 22.5)) == 8


def test_how_to_resize_is_one_of_two(preprocessing: Any) -> None:
    assert preprocessing.parse_resize({}) == "stretch"
    assert preprocessing.parse_resize({"resize": "letterbox"}) == "letterbox"
    with pytest.raises(ValueError, match="resize is 'crop', stretch or letterbox expected"):
        preprocessing.parse_resize({"resize": "crop"})
