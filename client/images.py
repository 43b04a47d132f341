"""From what a caller has, a path, an encoded file's bytes or an array, to the bytes to send."""

import os
from pathlib import Path

import numpy as np

from client.errors import InvalidImage

Image = str | os.PathLike[str] | bytes | bytearray | memoryview | np.ndarray

# What newer Tritons take at most through HTTP is 64 MiB, with all that surrounds the image.
DEFAULT_LIMIT = 64_000_000
# Protobuf's limit for one message is 2 GiB; the rest of a request needs far less than 1 MiB.
LARGEST_LIMIT = 2**31 - 2**20
# Of a picture that is decoded here, as in the server: model_repository/preprocess/config.pbtxt.
MAX_PIXELS = 64_000_000
JPEG_QUALITY = 90


def name_of(image: Image) -> str:
    """Return what to call the image in a message: its path, where it has one."""
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    return "the array" if isinstance(image, np.ndarray) else "the image"


def encoded(image: Image, limit: int = DEFAULT_LIMIT) -> bytes:
    """Return an image file's bytes: files and bytes untouched, an array as a lossless PNG.

    Args:
        image: a path; the bytes of an encoded file; or uint8 RGB [H, W, 3] or grey [H, W].
        limit: bytes at most. A file that is larger is not read.

    Raises:
        InvalidImage: the file cannot be read or is too large, or the array has another shape or
            dtype.
        TypeError: it is something else.
    """
    if isinstance(image, (str, os.PathLike)):
        return _read_file(Path(image), limit)
    if isinstance(image, np.ndarray):
        return _within(limit, _png(image), name_of(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        _check_size(memoryview(image).nbytes, limit, name_of(image))
        return bytes(image)
    raise TypeError(f"image must be a path, bytes or a numpy array, but got {type(image).__name__}")


def jpeg(picture_bgr: np.ndarray) -> bytes:
    """Return a picture, uint8 BGR [H, W, 3], as a JPEG that the detections do not suffer from."""
    import cv2  # only here: files and bytes need no OpenCV

    _, data = cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def _read_file(path: Path, limit: int) -> bytes:
    try:
        _check_size(path.stat().st_size, limit, str(path))
        with path.open("rb") as file:
            return _within(limit, file.read(limit + 1), str(path))  # a device has no size, or grows
    except FileNotFoundError:
        raise InvalidImage(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InvalidImage(f"{path}: a folder, expected an image file") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise InvalidImage(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _within(limit: int, data: bytes, name: str) -> bytes:
    _check_size(len(data), limit, name)
    return data


def _check_size(size: int, limit: int, name: str) -> None:
    if size > limit:
        raise InvalidImage(
            f"{name}: {size:,} bytes, more than the {limit:,} that are sent; save it smaller, "
            "as a JPEG for example, or raise the limit (max_bytes)"
        )


def _png(array: np.ndarray) -> bytes:
    _check_array(array)
    try:
        import cv2  # only here: files and bytes need no OpenCV
    except ImportError as error:
        raise InvalidImage(
            f"an array is sent as a PNG, which needs OpenCV ({error}): "
            "pip install opencv-python-headless"
        ) from None
    pixels = array if array.ndim == 2 else array[..., ::-1]  # OpenCV's order is BGR
    _, png = cv2.imencode(".png", np.ascontiguousarray(pixels))
    return png.tobytes()


def _check_array(array: np.ndarray) -> None:
    right_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not right_shape or array.size == 0:
        raise InvalidImage(
            "an array must be uint8 with shape [H, W, 3] in RGB or [H, W] in grey, "
            f"but got {array.dtype} with shape {list(array.shape)}"
        )
