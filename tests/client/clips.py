"""Small videos made by OpenCV, and pictures that carry a number through JPEG and video codecs."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

SIZE = (128, 96)  # width, height
STEP = 12  # levels of grey from one number to the next; two codecs in a row take off up to 7
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "MJPG"}


def numbered(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return a grey picture that stands for a number from 0 to 19."""
    return np.full((size[1], size[0], 3), STEP * number + 16, np.uint8)


def number_of(picture: np.ndarray) -> int:
    """Return the number that a picture stands for."""
    return round((picture.mean() - 12) / STEP)


def save_clip(path: Path, pictures: Sequence[np.ndarray], fps: float = 10) -> Path:
    """Write pictures as a video; the suffix says of which kind."""
    height, width = pictures[0].shape[:2]
    codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    file = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, fps, (width, height))
    for picture in pictures:
        file.write(picture)
    file.release()
    return path


def read_clip(path: Path) -> list[np.ndarray]:
    """Return a video's pictures."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    pictures = []
    while (frame := capture.read())[0]:
        pictures.append(frame[1])
    return pictures


def turned_clip(mp4: bytes) -> bytes:
    """Return the video with a matrix that says: turn me a quarter clockwise.

    ISO/IEC 14496-12, section 8.3.2: nine numbers of 32 bits, 40 bytes after the header's version.
    """
    start = mp4.index(b"tkhd") + 4 + 40
    one = 1 << 16
    matrix = [0, one, 0, -one, 0, 0, 0, 0, 1 << 30]
    return mp4[:start] + b"".join(n.to_bytes(4, signed=True) for n in matrix) + mp4[start + 36 :]
