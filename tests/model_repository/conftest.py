"""What the tests of the models share: their Python without Triton, photos, and hostile files."""

import importlib.util
import io
import json
import struct
import sys
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format, text_format
from PIL import Image
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.conftest import PROJECT

REPOSITORY = PROJECT / "model_repository"


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._array


class TritonError:
    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG = range(4)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message, self._code = message, code

    def message(self) -> str:
        return self._message

    def code(self) -> int:
        return self._code


class TritonModelException(Exception):  # noqa: N818, Triton's name
    pass


class InferenceResponse:
    def __init__(self, output_tensors: Any = (), error: TritonError | None = None) -> None:
        self.error = error
        self.outputs = {tensor.name(): tensor.as_numpy() for tensor in output_tensors}


class InferenceRequest:
    """A request as tests make it: tensors and parameters by name."""

    def __init__(self, inputs: dict[str, np.ndarray], **parameters: Any) -> None:
        self.inputs, self._parameters = inputs, json.dumps(parameters)

    def parameters(self) -> str:
        return self._parameters


class Logger:
    errors: list[str] = []  # noqa: RUF012, emptied for each test

    @classmethod
    def log_error(cls, message: str) -> None:
        cls.errors.append(message)


class MetricFamily:
    """Triton's counters; `values` are those of all families, by name and labels."""

    COUNTER = "counter"
    values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}  # noqa: RUF012

    def __init__(self, name: str, description: str, kind: str) -> None:
        assert description
        assert kind == self.COUNTER
        self.name = name

    def Metric(self, labels: dict[str, str]) -> "Metric":  # noqa: N802, Triton's name
        return Metric((self.name, frozenset(labels.items())))


class Metric:
    def __init__(self, key: tuple[str, frozenset[tuple[str, str]]]) -> None:
        self.key = key
        MetricFamily.values.setdefault(key, 0)

    def increment(self, amount: float) -> None:
        assert amount > 0
        MetricFamily.values[self.key] += amount


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    return Tensor(name, request.inputs[name]) if name in request.inputs else None


def by_name(config: dict[str, Any], kind: str, name: str) -> dict[str, Any] | None:
    return next((tensor for tensor in config[kind] if tensor["name"] == name), None)


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A small triton_python_backend_utils, in place of the one that only Triton's process has."""
    module = ModuleType("triton_python_backend_utils")
    for part in (
        Tensor,
        TritonError,
        TritonModelException,
        InferenceResponse,
        Logger,
        MetricFamily,
    ):
        setattr(module, part.__name__, part)
    module.InferenceRequest = InferenceRequest  # type: ignore[attr-defined]
    module.get_input_tensor_by_name = get_input_tensor_by_name  # type: ignore[attr-defined]
    module.get_input_config_by_name = lambda config, name: by_name(config, "input", name)  # type: ignore[attr-defined]
    module.get_output_config_by_name = lambda config, name: by_name(config, "output", name)  # type: ignore[attr-defined]
    monkeypatch.setattr(Logger, "errors", [])
    monkeypatch.setattr(MetricFamily, "values", {})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], ModuleType]:
    """load("preprocess", "model"): a module of a model, as the model itself would import it."""

    def load_module(model: str, name: str) -> ModuleType:
        path = REPOSITORY / model / "1" / f"{name}.py"
        monkeypatch.syspath_prepend(path.parent)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load_module


@pytest.fixture(scope="session")
def config_of() -> Callable[[str], dict[str, Any]]:
    """config_of("ssd"): a model's config.pbtxt as the dictionary that Triton hands to Python."""

    def read(model: str) -> dict[str, Any]:
        text = (REPOSITORY / model / "config.pbtxt").read_text()
        config = text_format.Parse(text, ModelConfig())
        return json_format.MessageToDict(config, preserving_proto_field_name=True)

    return read


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """encode(image, "JPEG", quality=90): a Pillow image or an array as a file."""

    def to_file(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    return to_file


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """A smooth picture, uint8 RGB [90, 120, 3], with a different colour in each corner."""
    y, x = np.mgrid[0:90, 0:120]
    return np.stack([x * 2, y * 2, 255 - x - y], axis=2).astype(np.uint8)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, pixel_bytes: int, bits: int = 8, colours: int = 2, extra: bytes = b""
) -> bytes:
    """A PNG whose header and compressed data need not agree; the data is zeros."""
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(pixel_bytes))), (b"IEND", b""))
    first, *rest = (png_chunk(kind, data) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + first + extra + b"".join(rest)


def animation_control(width: int, height: int) -> bytes:
    """The chunks that make a PNG an animated one, whose first frame is cleared to nothing."""
    frame = struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 1, 1, 0)
    return png_chunk(b"acTL", struct.pack(">II", 2, 0)) + png_chunk(b"fcTL", frame)


def tiff(changes: dict[int, int | tuple[int, int, int]], data: bytes = bytes(5000)) -> bytes:
    """A 16x16 gray TIFF with some tags changed: to a value, or to (type, count, value)."""
    tags: dict[int, Any] = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 278: 16}
    tags |= {273: 300, 279: 256} | changes
    entries = [
        struct.pack("<HHII", tag, *(value if isinstance(value, tuple) else (4, 1, value)))
        for tag, value in sorted(tags.items())
    ]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4) + data


def tiff_of_many_tags() -> bytes:
    """65,535 tags that all point to the same 16 KB: 1 GB for a reader that copies each."""
    value, tags = 1 << 14, 65535
    end = 8 + 2 + 12 * tags + 4
    first = [(256, 4, 1, 16), (257, 4, 1, 16), (273, 4, 1, end), (279, 4, 1, 256)]
    rest = [(40000 + index % 25000, 1, value, end) for index in range(tags - len(first))]
    entries = b"".join(struct.pack("<HHII", *entry) for entry in first + rest)
    return b"II*\0" + struct.pack("<IH", 8, tags) + entries + bytes(4) + bytes(value)


def bmp(width: int, height: int, compression: int = 0, data: bytes = b"") -> bytes:
    """A BMP of 8 bits a pixel, with any header."""
    offset = 14 + 40 + 1024
    sizes = struct.pack("<IHHI", offset + len(data), 0, 0, offset)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, 0, 0, 0, 256, 0)
    return b"BM" + sizes + info + bytes(1024) + data


@pytest.fixture(scope="session")
def hostile_files(encode: Callable[..., bytes], picture: np.ndarray) -> dict[str, bytes]:
    """Files that must be refused, quickly and in little memory, by name."""
    jpeg = encode(picture, "JPEG")
    return {
        "text": b"hello",
        "zeros": bytes(1000),
        "random": np.random.default_rng(0).bytes(100_000),
        "GIF": encode(picture, "GIF"),
        "JPEG signature": jpeg[:3],
        "JPEG of random data": jpeg[:300] + np.random.default_rng(1).bytes(100_000),
        "PNG signature": b"\x89PNG\r\n\x1a\n",
        "PNG that claims 400 megapixels": png(20000, 20000, 100),
        "PNG of no size": png(0, 0, 100),
        "PNG with less data than it claims": png(5000, 5000, 100),
        "PNG wider than any": png(60_000_000, 1, 1000),
        "PNG taller than any": png(1, 60_000_000, 1000),
        "PNG of two sizes": png(5000, 5000, 100, extra=png(10, 10, 310)[8:33]),
        "PNG with a frame larger than itself": png(
            8, 2**20, 99, 8, 6, animation_control(8, 2**20 * 90)
        ),
        "PNG of a large animation": png(2**20 * 16, 90, 99, 8, 6, animation_control(2**24, 90)),
        "PNG without an end": png(10, 10, 310)[:-12],
        "PNG of the largest size": png(2**31 - 1, 2**31 - 1, 100),
        "BMP of no size": bmp(0, 0),
        "BMP of negative size": bmp(-8, -8),
        "BMP of no height": bmp(8, -(2**31)),
        "BMP whose run length skips 16 GB": bmp(64_000_000, 1, 1, b"\0\2\0\xff" * 4),
        "WebP signature": b"RIFF\x10\0\0\0WEBP",
        "TIFF signature": b"II*\0",
        "TIFF of no size": tiff({256: 0, 257: 0}),
        "TIFF that claims 400 megapixels": tiff({256: 20000, 257: 20000}),
        "TIFF without pixels": tiff({273: 10**9}),
        "TIFF of huge tiles": tiff({322: 30000, 323: 30000, 324: 300, 325: 256}),
        "TIFF of a huge count": tiff({256: (4, 2**32 - 1, 8)}),
        "TIFF of huge strips": tiff({259: 8, 278: 2**31 - 1}),
        "TIFF of 65535 samples": tiff({277: 65535}),
        "TIFF of many strips": tiff(
            {256: 1, 257: 10**6, 278: 1, 273: (4, 10**6, 300), 279: (4, 10**6, 300)},
            b"\xff" * 4 * 10**6,
        ),
        "TIFF of many tags": tiff_of_many_tags(),
        "TIFF without an end": b"II*\0\x08\0\0\0\xff\xff",
        "JPEG without a frame": jpeg[:20] + b"\xff\xda\0\x02" + bytes(100),
        "JPEG of nothing but fill bytes": b"\xff\xd8" + b"\xff" * 10**5,
        "TIFF whose tags are elsewhere": b"II*\0\xff\xff\xff\xff" + bytes(100),
    }


@pytest.fixture(scope="session")
def exif_bomb() -> bytes:
    """EXIF with many tags that share one value, after its first six bytes."""
    return tiff_of_many_tags()


@pytest.fixture(scope="session")
def bomb() -> bytes:
    """A valid image of 8 KB and 64 megapixels, the most that is decoded."""
    return png(8000, 8000, 8000 * 1001, bits=1, colours=0)
