"""A small gRPC server in this process that speaks Triton's protocol and says what a test wants."""

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype

from client import Box, Detection

Tensors = dict[str, np.ndarray]
ROWS = 4


def answer_tensors(detections: Sequence[Detection] = (), size: tuple[int, int] = (480, 640)) -> Any:
    """Return the ensemble's outputs for one image of this height and width."""
    boxes = np.zeros((1, ROWS, 4), np.float32)
    scores = np.zeros((1, ROWS), np.float32)
    classes = np.zeros((1, ROWS), np.int32)
    labels = np.full((1, ROWS), b"", object)
    for row, found in enumerate(detections):
        box = found.box
        boxes[0, row] = box.x1, box.y1, box.x2, box.y2
        scores[0, row], classes[0, row] = found.score, found.class_id
        labels[0, row] = found.label.encode()
    return {
        "image_size": np.array([size], np.int32),
        "num_detections": np.array([[len(detections)]], np.int32),
        "detection_boxes": boxes,
        "detection_scores": scores,
        "detection_classes": classes,
        "detection_labels": labels,
    }


def response_of(tensors: Tensors) -> service_pb2.ModelInferResponse:
    """Return the tensors as Triton sends them."""
    response = service_pb2.ModelInferResponse(model_name="ensemble")
    for name, array in tensors.items():
        datatype = np_to_triton_dtype(array.dtype)
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        texts = array.ravel().tolist() if datatype == "BYTES" else []
        packed = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        response.raw_output_contents.append(packed if texts else array.tobytes())
    return response


def config_of(name: str, parameters: dict[str, str]) -> model_config_pb2.ModelConfig:
    """Return a model's configuration with these parameters."""
    config = model_config_pb2.ModelConfig(name=name)
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    return config


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Keeps the requests and answers each with what `answer` returns for it.

    `canary` holds the parameters of ensemble_canary's configuration, None where there is none.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.headers: list[dict[str, Any]] = []  # of all calls
        self.canary: dict[str, str] | None = None
        self.asked = 0  # for configurations
        self.ask_seconds = 0.0  # how long telling one takes
        self.url = ""
        self.answer: Callable[[Any, grpc.ServicerContext], Tensors] = lambda *_: answer_tensors()

    def ModelInfer(self, request, context):  # noqa: N802
        self.headers.append(dict(context.invocation_metadata()))
        self.requests.append(request)
        response = response_of(self.answer(request, context))
        response.model_name = request.model_name
        return response

    def ModelConfig(self, request, context):  # noqa: N802
        self.headers.append(dict(context.invocation_metadata()))
        self.asked += 1
        time.sleep(self.ask_seconds)
        if self.canary is not None and request.name == "ensemble_canary":
            return service_pb2.ModelConfigResponse(config=config_of(request.name, self.canary))
        return context.abort(grpc.StatusCode.NOT_FOUND, "Request for unknown model")

    def refuse(self, status: grpc.StatusCode, details: str) -> None:
        """Answer every request with this error from now on."""
        self.answer = lambda _, context: context.abort(status, details)


def serve(service: Service, url: str = "127.0.0.1:0") -> grpc.Server:
    """Start the service; port 0 is a free one."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.server(ThreadPoolExecutor(16), options=options)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    service.url = f"127.0.0.1:{server.add_insecure_port(url)}"
    server.start()
    return server


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that finds nothing in any image, until a test says otherwise."""
    service = Service()
    server = serve(service)
    yield service
    server.stop(None).wait()


@pytest.fixture
def nowhere() -> str:
    """An address where nothing listens."""
    service = Service()
    serve(service).stop(None).wait()
    return service.url


@pytest.fixture
def cell() -> Detection:
    """One detection whose numbers float32 holds exactly."""
    return Detection("RBC", 0, 0.75, Box(10.5, 20.0, 110.5, 120.25))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small JPEG file."""
    return save_photo(tmp_path / "photo.jpg")


def save_photo(path: Path, height: int = 48, width: int = 64) -> Path:
    """Write a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def turned(jpeg: bytes) -> bytes:
    """Return the JPEG with EXIF data that say: turn me a quarter clockwise (orientation 6)."""
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"  # tag, type, count, value
    body = b"Exif\0\0MM\x00\x2a\x00\x00\x00\x08\x00\x01" + entry + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2) + body + jpeg[2:]


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of the tests marked anyio."""
    return "asyncio"
