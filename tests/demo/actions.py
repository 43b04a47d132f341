"""What people do on the page, and what they see."""

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import FilePayload, Page, expect


def payload(name: str, content: bytes) -> FilePayload:
    return FilePayload(name=name, mimeType="application/octet-stream", buffer=content)


def drop(page: Page, *files: FilePayload, zone: str = "photos-drop") -> None:
    page.set_input_files(f"#{zone} input[type=file]", list(files))


def drop_photo(page: Page, name: str, content: bytes) -> None:
    """Drops a photo and waits for its boxes."""
    drop(page, payload(name, content))
    expect(page.locator("#photos-result .facts")).to_contain_text(name)


def set_slider(page: Page, slider: str, value: float) -> None:
    number = page.locator(f"#{slider} input[type=number]")
    number.fill(str(value))
    number.press("Enter")


def choose_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def reencoded(photo: Path, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    with Image.open(photo) as image:
        image.save(file, kind, **options)
    return file.getvalue()


def size_of(photo: Path) -> tuple[int, int]:
    """Width and height, pixels."""
    with Image.open(photo) as image:
        return image.size


def screenshot(page: Page, path: Path) -> None:
    """Saves what the window shows in 256 colours, which is half the file."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)  # transitions of colours
    with Image.open(io.BytesIO(page.screenshot(animations="disabled"))) as image:
        image.convert("RGB").quantize(256, kmeans=2).save(path, optimize=True)
