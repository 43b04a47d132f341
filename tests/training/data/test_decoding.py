"""One rule says how a picture is turned: training, server, client and browser see the same."""

import base64
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Browser

from client import drawing
from client.local import step_code
from training.data import decoding

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation='
    '"6"/></rdf:RDF></x:xmpmeta>'
)
EXIF = Image.Exif()
EXIF[0x0112] = 6


def picture(mode: str = "RGB") -> Image.Image:
    """60 x 40 pixels whose four corners differ."""
    corners = np.array([[[220, 40, 40], [40, 200, 60]], [[30, 60, 210], [230, 220, 60]]], np.uint8)
    rgb = Image.fromarray(cv2.resize(corners, (60, 40), interpolation=cv2.INTER_LINEAR))
    if mode == "I;16":
        return Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    return rgb.convert(mode)


def file(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    encoded = io.BytesIO()
    picture(mode).save(encoded, kind, **options)
    return encoded.getvalue()


def png_text(key: str, value: str) -> PngInfo:
    info = PngInfo()
    info.add_text(key, value, zip=True)
    return info


def raw_profile() -> str:
    data = b"Exif\0\0" + EXIF.tobytes().removeprefix(b"Exif\0\0")
    return f"\nexif\n{len(data):8}\n{data.hex()}\n"


SEVERAL: dict[str, Any] = {"save_all": True, "append_images": [picture().rotate(180)]}
TURNED = {  # by EXIF, to 40 x 60
    "jpeg": file("JPEG", exif=EXIF, quality=95),
    "progressive jpeg": file("JPEG", exif=EXIF, progressive=True),
    "mpo": file("MPO", exif=EXIF, **SEVERAL),
    "png": file("PNG", exif=EXIF),
    "animated png": file("PNG", exif=EXIF, **SEVERAL),
    "webp": file("WEBP", exif=EXIF, lossless=True),
    "tiff": file("TIFF", exif=EXIF),
    "cmyk jpeg": file("JPEG", "CMYK", exif=EXIF, quality=95),
}
AS_STORED = {
    "jpeg with xmp": file("JPEG", xmp=XMP.encode(), quality=95),
    "png with xmp": file("PNG", pnginfo=png_text("XML:com.adobe.xmp", XMP)),
    "webp with xmp": file("WEBP", xmp=XMP.encode(), lossless=True),
    "animated png with xmp": file("PNG", pnginfo=png_text("XML:com.adobe.xmp", XMP), **SEVERAL),
    "png with a profile": file("PNG", pnginfo=png_text("Raw profile type exif", raw_profile())),
    "animated webp": file("WEBP", lossless=True, **SEVERAL),
    "palette png": file("PNG", "P"),
    "palette bmp": file("BMP", "P"),
    "16-bit png": file("PNG", "I;16"),
    "16-bit tiff": file("TIFF", "I;16"),
    "png with alpha": file("PNG", "RGBA"),
    "lzw tiff": file("TIFF", compression="tiff_lzw"),
    "cmyk tiff": file("TIFF", "CMYK"),
    "black and white tiff": file("TIFF", "1", compression="group4"),
}


SERVED = step_code.load_module(Path("model_repository/preprocess/1").absolute(), "preprocessing")


def see_alike(encoded: bytes) -> tuple[int, int]:
    """Width and height that all agree on, and that they show the same picture."""
    ours, info = decoding.decode(encoded)
    theirs_bgr = drawing.read(encoded)
    served, (height, width) = SERVED.read_image(encoded, info.height, info.width, 10**6)
    assert ours.shape == theirs_bgr.shape == (info.height, info.width, 3) == (height, width, 3)
    assert cv2.absdiff(ours, theirs_bgr[..., ::-1]).mean() < 4
    assert cv2.absdiff(ours, np.ascontiguousarray(served)).mean() < 4
    return info.width, info.height


@pytest.mark.parametrize("name", TURNED)
def test_exif_turns_a_picture(name: str) -> None:
    assert see_alike(TURNED[name]) == (40, 60)


@pytest.mark.parametrize("name", AS_STORED)
def test_nothing_else_does(name: str) -> None:
    assert see_alike(AS_STORED[name]) == (60, 40)


# Browsers show no TIFF, and Chromium turns no WebP.
@pytest.mark.parametrize(
    "name", [name for name in TURNED | AS_STORED if "tiff" not in name and name != "webp"]
)
def test_the_browser_agrees(name: str, browser: Browser) -> None:
    encoded = (TURNED | AS_STORED)[name]
    page = browser.new_page()
    page.set_content(f'<img src="data:;base64,{base64.b64encode(encoded).decode()}">')
    size = page.evaluate("""async () => {
        const image = document.querySelector('img');
        await image.decode();
        return [image.naturalWidth, image.naturalHeight];
    }""")
    page.close()
    assert size == ([40, 60] if name in TURNED else [60, 40])


@pytest.mark.parametrize(
    "place",
    ["E1-xmp-orientation/images/train/odd.jpg", "E4-png-raw-profile/images/train/odd.png"],
)
def test_as_people_have_them(test_data: Path, place: str) -> None:
    assert see_alike((test_data / "cases" / place).read_bytes()) == (320, 240)


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "empty"),
        (b"hello", "not an image"),
        (file("GIF"), "GIF is not read"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC is not read"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", "AVIF is not read"),
        (b"\0\0\0\x20ftypavc1\0\0\0\0avc1isom", "not an image"),
        (TURNED["jpeg"][:-200], "truncated or damaged JPEG"),
        (TURNED["tiff"][: len(TURNED["tiff"]) * 2 // 3], "truncated or damaged TIFF"),
        (TURNED["webp"][:-40], "truncated or damaged WebP"),
    ],
)
def test_what_is_not_read_is_named(encoded: bytes, message: str) -> None:
    with pytest.raises(decoding.ImageError, match=message):
        decoding.decode(encoded)
