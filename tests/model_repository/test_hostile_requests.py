"""Whatever a client sends: it gets an answer, and no model process dies or grows without bound."""

import itertools
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

SECONDS = 120
Input = tuple[str, str, list[int], bytes]  # name, datatype, shape, raw content


@pytest.fixture(scope="module")
def stub(server: Any) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    """The wire protocol itself: client libraries would refuse to send most of this."""
    options = [("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(server.grpc_url, options) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request(model: str, *inputs: Input, **parameters: Any) -> service_pb2.ModelInferRequest:
    message = service_pb2.ModelInferRequest(model_name=model)
    for name, datatype, shape, content in inputs:
        message.inputs.add(name=name, datatype=datatype, shape=shape)
        message.raw_input_contents.append(content)
    fields = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    for name, value in parameters.items():
        setattr(message.parameters[name], fields[type(value)], value)
    return message


def answer(stub: Any, message: service_pb2.ModelInferRequest) -> tuple[str, str]:
    """The status and message of the answer."""
    try:
        stub.ModelInfer(message, timeout=SECONDS)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def strings(*files: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(file)) + file for file in files)


def images(*files: bytes) -> Input:
    return "image", "BYTES", [len(files), 1], strings(*files)


def postprocess_inputs(box: float, score: float, side: int) -> list[Input]:
    return [
        ("boxes", "FP32", [2, 400, 4], np.full(3200, box, np.float32).tobytes()),
        ("scores", "FP32", [2, 400, 3], np.full(2400, score, np.float32).tobytes()),
        ("image_size", "INT32", [2, 2], np.full(4, side, np.int32).tobytes()),
    ]


def model_processes() -> dict[int, str]:
    """Process id and model folder of each Python process of the servers this test run started."""
    commands = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and os.getpid() in ancestors(int(folder.name)):
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if b"triton_python_backend_stub" in command[0]:
                commands[int(folder.name)] = command[1].decode()
    return commands


def ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return
        pid = int(status.rpartition(")")[2].split()[1])
        yield pid


def peak_memory(pid: int) -> int:
    """The most memory the process ever held, bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.fixture(autouse=True)
def _all_live_on(stub: Any, smear: Path) -> Iterator[None]:
    """After each test the same processes live, and a normal request is answered."""
    before = model_processes()
    assert before
    yield
    assert model_processes() == before
    assert answer(stub, request("ensemble", images(smear.read_bytes()))) == ("OK", "")


@pytest.mark.parametrize("model", ["ensemble", "preprocess"])
def test_hostile_files(stub: Any, model: str, hostile_files: dict[str, bytes]) -> None:
    for name, file in hostile_files.items():
        status, message = answer(stub, request(model, images(file)))
        assert status == "INVALID_ARGUMENT", (name, message)
        assert "image 0: " in message
        assert "Traceback" not in message


@pytest.mark.parametrize("model", ["ensemble", "preprocess"])
def test_wrong_tensors(stub: Any, smear: Path, model: str) -> None:
    photo = smear.read_bytes()
    whole = strings(photo)
    wrong: list[list[Input]] = [
        [],
        [("image", "BYTES", [1, 2], strings(photo, photo))],
        [("image", "BYTES", [1], whole)],
        [("image", "BYTES", [0, 1], b"")],
        [("image", "BYTES", [-1, 1], whole)],
        [("image", "BYTES", [2, 1], whole)],
        [("image", "BYTES", [1, 1], strings(photo, photo))],
        [("image", "BYTES", [9, 1], whole * 9)],
        [("image", "UINT8", [1, len(photo)], photo)],
        [("image", "FP32", [1, 1], b"four")],
        [("images", "BYTES", [1, 1], whole)],
        [("image", "BYTES", [1, 1], b"")],
        [("image", "BYTES", [1, 1], b"abc")],
        [("image", "BYTES", [1, 1], photo)],
        *(
            [("image", "BYTES", [1, 1], struct.pack("<I", length) + photo)]
            for length in (10, len(photo) - 1, len(photo) + 1, 2**31, 2**32 - 1)
        ),
    ]
    for inputs in wrong:
        status, _ = answer(stub, request(model, *inputs))
        assert status == "INVALID_ARGUMENT", [tensor[:3] for tensor in inputs]


def test_a_batch_size_beyond_any_number(stub: Any, smear: Path) -> None:
    inputs = ("image", "BYTES", [2**40, 1], strings(smear.read_bytes()))

    assert answer(stub, request("ensemble", inputs))[0] in ("OK", "INVALID_ARGUMENT")


def test_wrong_parameters(stub: Any, smear: Path) -> None:
    image = images(smear.read_bytes())
    names = ("score_threshold", "iou_threshold", "max_detections")
    values = ("abc", "", "x" * 10**6, 2.0, -0.1, float("nan"), float("inf"), True, -(2**63), 2**62)
    wrong: list[dict[str, Any]] = [
        *({name: value} for name, value in itertools.product(names, values)),
        {"score_treshold": 0.5},
        {"": 1},
        {'a"b\n\\': 'c"d\n\\'},
        {"é\0": "\0"},
    ]
    for parameters in wrong:
        status, message = answer(stub, request("ensemble", image, **parameters))
        assert status == "INVALID_ARGUMENT", parameters
        assert len(message) < 300


def test_postprocess_by_itself(stub: Any) -> None:
    numbers = (0.5, -1e30, 1e30, float("nan"), float("inf"), float("-inf"))
    for box, score in itertools.product(numbers, numbers):
        inputs = postprocess_inputs(box, score, 2**31 - 1)
        assert answer(stub, request("postprocess", *inputs))[0] == "OK"
    for side in (0, -5, -(2**31)):
        status, message = answer(stub, request("postprocess", *postprocess_inputs(0, 0, side)))
        assert (status, message[:9]) == ("INVALID_ARGUMENT", "image 0: ")


def test_ssd_by_itself(stub: Any) -> None:
    pixels = bytes(2 * 300 * 300 * 3)

    for inputs, status in (
        (("images", "UINT8", [2, 300, 300, 3], pixels), "OK"),
        (("images", "UINT8", [2, 300, 300, 3], pixels[:-1]), "INVALID_ARGUMENT"),
        (("images", "UINT8", [1, 600, 300, 3], pixels), "INVALID_ARGUMENT"),
        (("images", "INT8", [2, 300, 300, 3], pixels), "INVALID_ARGUMENT"),
    ):
        assert answer(stub, request("ssd", inputs))[0] == status


def test_50_mb_that_are_no_image(stub: Any) -> None:
    junk = np.random.default_rng(0).bytes(50_000_000)

    for file in (junk, b"\xff\xd8\xff" + junk):
        assert answer(stub, request("ensemble", images(file)))[0] == "INVALID_ARGUMENT"


def test_a_batch_of_the_largest_images(stub: Any, bomb: bytes) -> None:
    """Decoded together they would take 1.5 GB as RGB, and as much again in the decoder."""
    assert answer(stub, request("ensemble", images(*[bomb] * 8))) == ("OK", "")

    for pid, model in model_processes().items():
        assert peak_memory(pid) < 1e9, model
