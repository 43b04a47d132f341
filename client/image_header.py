"""What an image file says of itself: its format, its size and how the camera was held.

Nothing is decoded, and no header, however hostile, takes more memory than its file. So the readers
are our own, and Pillow reads WebP's only. It copies the value of every tag: a JPEG of 2 MB whose
EXIF has 65,535 tags that share one value takes 64 GB. And it makes room for an animated PNG's
canvas before anybody could look at its size: 12 GB for 770 bytes.
"""

import io
import struct
from typing import Literal, NamedTuple, get_args

import numpy as np
from PIL.WebPImagePlugin import WebPImageFile

SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
UNREAD = {
    b"GIF8": "GIF",
    b"8BPS": "PSD",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    # ISO/IEC 23008-12: behind a length of four bytes
    b"ftypheic": "HEIC",
    b"ftypheix": "HEIC",
    b"ftyphevc": "HEIC",
    b"ftypmif1": "HEIC",
    b"ftypavif": "AVIF",
    b"ftypavis": "AVIF",
}
EXIF = b"Exif\0\0"
MAX_SIDE = 2**20  # pixels; OpenCV's own limit, and Pillow needs much memory for each row

# Tags of TIFF 6.0, section 8 "Baseline Field Reference Guide", and section 15 "Tiled Images".
WIDTH, HEIGHT = 256, 257
ORIENTATION = 274  # of EXIF as well, which is TIFF inside
STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES = 273, 279, 324, 325
TILE_WIDTH, TILE_HEIGHT = 322, 323
TIFF_INTEGERS = {1: "u1", 3: "u2", 4: "u4"}
LARGE_TILE = 2**24  # pixels; libtiff holds a whole tile, also of a tiny image

# Markers of JPEG, ITU-T T.81, table B.1.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN, APP1 = 0xDA, 0xE1
WITHOUT_LENGTH = frozenset([0x00, 0x01, *range(0xD0, 0xD8)])


Reason = Literal["empty", "no_image", "other_format", "too_large", "damaged"]
REASONS: tuple[Reason, ...] = get_args(Reason)


class ImageError(ValueError):
    """A file that cannot be used. The message is for the person who sent it."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason: Reason = reason


class Header(NamedTuple):
    """What a file says of itself."""

    width: int  # pixels, as decoding gives them
    height: int
    orientation: int  # EXIF's, 1 to 8; how to turn what decoding gives


def image_format(file: bytes) -> str:
    """The name of the file's format, by its first bytes."""
    if not file:
        raise ImageError("empty", "empty")
    for signature, kind in SIGNATURES.items():
        if file.startswith(signature):
            return kind
    if file[:4] == b"RIFF" and file[8:12] == b"WEBP":
        return "WebP"
    raise unread(file)


def unread(file: bytes) -> ImageError:
    """What to say of a file of no format that is read."""
    expected = "(JPEG, PNG, BMP, WebP or TIFF expected)"
    for signature, kind in UNREAD.items():
        if signature in (file[: len(signature)], file[4 : 4 + len(signature)]):
            return ImageError(f"{kind} is not read {expected}", "other_format")
    return ImageError(f"not an image {expected}", "no_image")


def read_header(kind: str, file: bytes, max_pixels: int) -> Header:
    """Read the header and refuse what is too large to decode."""
    try:
        header = READERS[kind](file)
    except Exception:  # Pillow, struct and numpy have a dozen ways to say that a header is broken
        raise unreadable(kind) from None
    size = f"{header.width}x{header.height}"
    if max(header.width, header.height) > MAX_SIDE:
        raise ImageError(f"{size} has a side of more than {MAX_SIDE} pixels", "too_large")
    if header.width * header.height > max_pixels:
        megapixels, limit = header.width * header.height / 1e6, max_pixels / 1e6
        message = f"{size} is {megapixels:.1f} megapixels, the limit is {limit:.1f}"
        raise ImageError(message, "too_large")
    return header


def unreadable(kind: str) -> ImageError:
    return ImageError(f"truncated or damaged {kind}", "damaged")


def jpeg_header(file: bytes) -> Header:
    """ITU-T T.81, annex B.1: the segments before the first scan."""
    frame: tuple[int, int] | None = None
    exif = b""
    at = 2
    while True:
        at = file.index(b"\xff", at) + 1
        marker = file[at]
        if marker == START_OF_SCAN and frame:
            return Header(frame[1], frame[0], exif_orientation(exif))
        if marker == 0xFF:  # any number of them may fill the space before a marker
            continue
        if marker in WITHOUT_LENGTH:
            at += 1
            continue
        (length,) = struct.unpack_from(">H", file, at + 1)
        if marker in FRAMES and not frame:
            frame = struct.unpack_from(">HH", file, at + 4)
        elif marker == APP1 and file.startswith(EXIF, at + 3) and not exif:
            exif = file[at + 3 : at + 1 + length]
        at += 1 + length


def png_header(file: bytes) -> Header:
    """PNG, section 5 "Datastream structure": chunks from one IHDR to IEND."""
    width, height = struct.unpack_from(">II", file, 16)
    exif = b""
    kind, at = b"", 8
    while kind != b"IEND":
        (length, kind) = struct.unpack_from(">I4s", file, at)
        if (kind == b"IHDR") != (at == 8):
            raise unreadable("PNG")
        if kind == b"eXIf":
            exif = file[at + 8 : at + 8 + length]
        at += 12 + length
    return Header(width, height, exif_orientation(exif))


def webp_header(file: bytes) -> Header:
    image = WebPImageFile(io.BytesIO(file))
    return Header(*image.size, exif_orientation(image.info.get("exif", b"")))


def bmp_header(file: bytes) -> Header:
    """BITMAPCOREHEADER has 12 bytes and short sizes, all later headers long ones."""
    (length,) = struct.unpack_from("<I", file, 14)
    width, height = struct.unpack_from("<HH" if length == 12 else "<ii", file, 18)
    return Header(width, abs(height), 1)  # of a negative height the first row is the top one


def tiff_header(file: bytes) -> Header:
    """The first page; raises ImageError if its pixels are not all there, which libtiff makes up."""
    tags = tiff_tags(file)
    for starts, lengths in ((STRIP_OFFSETS, STRIP_BYTES), (TILE_OFFSETS, TILE_BYTES)):
        if starts in tags and lengths in tags and ends(tags[starts], tags[lengths]) > len(file):
            raise unreadable("TIFF")
    first = {tag: int(values[0]) for tag, values in tags.items() if len(values)}
    width, height = first[WIDTH], first[HEIGHT]
    if first.get(TILE_WIDTH, 0) * first.get(TILE_HEIGHT, 0) > max(width * height, LARGE_TILE):
        raise unreadable("TIFF")
    if first.get(ORIENTATION) in (5, 6, 7, 8):
        width, height = height, width
    return Header(width, height, 1)  # OpenCV turns TIFF upright, whatever it is told


READERS = {
    "JPEG": jpeg_header,
    "PNG": png_header,
    "BMP": bmp_header,
    "WebP": webp_header,
    "TIFF": tiff_header,
}


def tiff_tags(file: bytes) -> dict[int, np.ndarray]:
    """The integer tags of the first page, as views into the file. TIFF 6.0, section 2."""
    order = "<" if file.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", file, 4)
    (count,) = struct.unpack_from(f"{order}H", file, start)
    tags: dict[int, np.ndarray] = {}
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", file, entry)
        if kind in TIFF_INTEGERS and tag not in tags:
            dtype = np.dtype(order + TIFF_INTEGERS[kind])
            short = number * dtype.itemsize <= 4  # then the value stands in the entry itself
            at = entry + 8 if short else struct.unpack_from(f"{order}I", file, entry + 8)[0]
            tags[tag] = np.frombuffer(file, dtype, number, at)
    return tags


def ends(starts: np.ndarray, lengths: np.ndarray) -> int:
    """Where the last of some parts of a file ends."""
    both = min(len(starts), len(lengths))
    return int((starts[:both].astype(np.int64) + lengths[:both]).max())


def exif_orientation(exif: bytes) -> int:
    """EXIF 2.32, tag 0x0112: 1 to 8; 1 where there is no such tag or it makes no sense."""
    try:
        orientation = int(tiff_tags(exif.removeprefix(EXIF))[ORIENTATION][0])
    except (KeyError, IndexError, ValueError, struct.error):  # no reason to refuse a good photo
        return 1
    return orientation if orientation in range(1, 9) else 1
