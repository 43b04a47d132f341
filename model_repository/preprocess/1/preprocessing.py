"""Encoded image files in, the network's input out.

In: whole files as bytes: JPEG, PNG, BMP, WebP or TIFF, recognised by content, never by name.
Out: uint8 RGB [B, H, W, 3], upright, stretched to the network's input size or letterboxed, which is
as large as it fits, in the middle of grey; and the size of each upright original in pixels, int32
[B, 2] (height, width).

The header is read first, without decoding, so that a small file that claims a huge image costs
nothing. OpenCV decodes JPEG, BMP and TIFF: twice as fast as Pillow, in half the memory, and safe
from hostile BMP and TIFF that let Pillow take gigabytes. Pillow decodes PNG and WebP: OpenCV 4.11
reads freed memory on animated ones, and dies of it. Both refuse truncated files. Alpha is dropped,
16 bits become 8, gray, palette and CMYK become RGB, of several frames or pages the first counts.

A JPEG of at least four times what it takes up of the input is decoded at 1/2, 1/4 or 1/8 of its
size, which the format's blocks of 8x8 pixels allow (libjpeg's "scale_num/scale_denom"): of 12
megapixels this takes a fifth of the time. The result is like that of averaging the whole photo,
which bilinear resizing would sample at a few points only.
"""

import io
import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from image_header import Header, ImageError, image_format, read_header, unreadable
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

__all__ = ["ImageError", "preprocess"]

RESIZES = ("stretch", "letterbox")
PADDING = 127  # of 255, around a letterboxed photo: close to 0 once a network has normalised it
LARGEST_WARPED = 2**15 - 2  # pixels of a side; OpenCV's warpAffine takes no more
# Pillow's readers by themselves: Image.open() would also try other formats, and warn.
PILLOW_READERS: dict[str, type[ImageFile.ImageFile]] = {"PNG": PngImageFile, "WebP": WebPImageFile}
# Turning the small result instead of the photo saves 26 ms at 12 megapixels.
DECODING = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
REDUCTIONS = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
}


def preprocess(
    files: Sequence[bytes], height: int, width: int, max_pixels: int, resize: str = "stretch"
) -> tuple[np.ndarray, np.ndarray]:
    """Turn files into the network's input, one at a time: photos take far more room than results.

    Args:
        files: B encoded images.
        height, width: the network's input size, pixels.
        max_pixels: the largest image that is decoded.
        resize: one of RESIZES.

    Returns:
        images, uint8 [B, height, width, 3]; original sizes, int32 [B, 2] (height, width).

    Raises:
        ImageError: the first file that is at fault, with its index.
    """
    images = np.empty((len(files), height, width, 3), np.uint8)
    sizes = np.empty((len(files), 2), np.int32)
    for index, file in enumerate(files):
        try:
            images[index], sizes[index] = read_image(file, height, width, max_pixels, resize)
        except ImageError as error:
            raise ImageError(f"image {index}: {error}", error.reason) from None
    return images, sizes


def read_image(
    file: bytes, height: int, width: int, max_pixels: int, resize: str = "stretch"
) -> tuple[np.ndarray, tuple[int, int]]:
    """One upright image uint8 [height, width, 3], and its original's height and width."""
    kind = image_format(file)
    header = read_header(kind, file, max_pixels)
    turned = header.orientation >= 5  # rows and columns are exchanged in the file
    target = (height, width) if turned else (width, height)
    content = fit_inside(header, target) if resize == "letterbox" else target
    reduction = choose_reduction(header, content) if kind == "JPEG" else 1
    pixels = decode(kind, file, header, reduction)
    if resize == "letterbox":
        image = letterbox(pixels, header, reduction, target)
    else:
        image = stretch(pixels, header, reduction, target)
    original_size = (header.width, header.height) if turned else (header.height, header.width)
    return upright(image, header.orientation), original_size


def parse_resize(texts: Mapping[str, str]) -> str:
    """How a photo is resized, as config.pbtxt has it; one of before says nothing.

    Raises:
        ValueError: it is none of RESIZES.
    """
    resize = texts.get("resize", RESIZES[0])
    if resize not in RESIZES:
        raise ValueError(f"resize is {resize!r:.40}, {' or '.join(RESIZES)} expected")
    return resize


def fit_inside(header: Header, target: tuple[int, int]) -> tuple[float, float]:
    """Width and height of the largest image of a photo's shape within the target's."""
    scale = min(target[0] / header.width, target[1] / header.height)
    return header.width * scale, header.height * scale


def choose_reduction(header: Header, target: tuple[float, float]) -> int:
    """The largest that leaves more than the target (width, height); 1 below four times its size."""
    ratio = min(header.width / target[0], header.height / target[1])
    return next((each for each in REDUCTIONS if ratio >= max(4, 1.25 * each)), 1)


def decode(kind: str, file: bytes, header: Header, reduction: int) -> np.ndarray:
    """The pixels, uint8 RGB [header.height, header.width, 3], not yet upright.

    With a reduction both sides are divided by it, and rounded up.
    """
    try:
        if kind in PILLOW_READERS:
            pixels = pillow_pixels(PILLOW_READERS[kind](io.BytesIO(file)))
        else:
            flags = DECODING | REDUCTIONS.get(reduction, 0)
            pixels = cv2.imdecode(np.frombuffer(file, np.uint8), flags)
    except Exception:  # each decoder has its own ways to say that a file is broken
        raise unreadable(kind) from None
    expected = (-(-header.height // reduction), -(-header.width // reduction))
    if pixels is None or pixels.shape[:2] != expected:
        raise unreadable(kind)
    return pixels


def stretch(
    pixels: np.ndarray, header: Header, reduction: int, target: tuple[int, int]
) -> np.ndarray:
    """What was decoded, at the target's size whatever its shape: uint8 [height, width, 3]."""
    if reduction == 1:
        return cv2.resize(pixels, target, interpolation=cv2.INTER_LINEAR)
    photo = header.width / reduction, header.height / reduction
    return sample(pixels, photo, target, (photo[0] / target[0], photo[1] / target[1]))


def letterbox(
    pixels: np.ndarray, header: Header, reduction: int, target: tuple[int, int]
) -> np.ndarray:
    """What was decoded, in its own shape in the middle of grey: uint8 [height, width, 3].

    The middle, because a photo that is turned or mirrored then is a canvas turned or mirrored. The
    scale is not rounded to whole pixels: a pixel of the canvas is of the photo where its centre is.
    """
    content = fit_inside(header, target)
    left, top = (margin(*pair) for pair in zip(target, content, strict=True))
    photo = header.width / reduction, header.height / reduction
    inner = target[0] - 2 * left, target[1] - 2 * top
    image = np.full((target[1], target[0], 3), PADDING, np.uint8)
    image[top : target[1] - top, left : target[0] - left] = sample(
        pixels, photo, inner, (photo[0] / content[0], photo[1] / content[1])
    )
    return image


def margin(target: int, content: float) -> int:
    """How many pixels on either side have their centre beyond the content; one is always left."""
    return min(math.ceil((target - content - 1) / 2), (target - 1) // 2)


def sample(
    pixels: np.ndarray,
    photo: tuple[float, float],
    size: tuple[int, int],
    step: tuple[float, float],
) -> np.ndarray:
    """An image of this size (width, height) around a photo's middle, bilinear: uint8 RGB.

    Args:
        pixels: what was decoded, which may reach beyond the photo, since the sides of a reduced
            image are rounded up; cv2.resize would move boxes by up to 7 pixels of a photo.
        photo: width and height of the photo in these pixels.
        size: of the result.
        step: how many of these pixels one of the result takes, along x and y.
    """
    if max(pixels.shape) > LARGEST_WARPED:
        return cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    # OpenCV's coordinates are those of pixel centres.
    start = [(photo[i] - step[i] * (size[i] - 1) - 1) / 2 for i in (0, 1)]
    return cv2.warpAffine(
        pixels,
        np.array([[step[0], 0, start[0]], [0, step[1], start[1]]]),
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def pillow_pixels(image: Image.Image) -> np.ndarray:
    """Any of Pillow's modes as uint8 RGB."""
    if image.mode == "I;16":  # convert() would clip, not scale
        return cv2.cvtColor((np.asarray(image) >> 8).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    image.info.pop("transparency", None)  # convert() would warn of what it cannot keep
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Undo how the camera was held; EXIF 2.32, section 4.6.4, "Orientation"."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image
