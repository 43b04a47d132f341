"""The same photo to the same server: each language finds what Python finds."""

import json
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from tritonclient.grpc import service_pb2

from client import Detector
from serving.server.server import EmbeddedServer
from tests.client.examples.conftest import ENVIRONMENT, EXAMPLES, Command
from tests.conftest import PROJECT

Example = tuple[str, Command]
SECONDS = 120


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The drawn ones, one with nothing on it, and one larger than what a socket takes at once."""
    folder = tmp_path_factory.mktemp("photos")
    blank = np.full((100, 150, 3), 255, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1500, 3), np.uint8)
    cv2.imwrite(str(folder / "blank.png"), blank)
    cv2.imwrite(str(folder / "a large one.png"), noise)
    smears = {path.name: path for path in sorted((PROJECT / "samples").glob("*.jpg"))}
    return smears | {path.name: path for path in folder.iterdir()}


def run(
    example: Example, server: EmbeddedServer, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    name, command = example
    url = server.grpc_url if name == "node, gRPC" else f"http://{server.http_url}"
    return subprocess.run(
        [*command, *arguments, url],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=SECONDS,
        check=False,
    )


def test_the_boxes_are_those_of_python(
    example: Example, server: EmbeddedServer, photos: dict[str, Path]
) -> None:
    found = 0
    with Detector(server.grpc_url) as detector:
        for photo in photos.values():
            done = run(example, server, photo)
            assert (done.returncode, done.stderr) == (0, ""), done.stderr
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            expected = detector.detect(photo).detections
            assert [line["label"] for line in lines] == [it.label for it in expected]
            numbers = [[line[key] for key in ("score", "x1", "y1", "x2", "y2")] for line in lines]
            theirs = [[it.score, it.box.x1, it.box.y1, it.box.x2, it.box.y2] for it in expected]
            assert np.allclose(np.reshape(numbers, -1), np.reshape(theirs, -1), rtol=0, atol=1e-3)
            found += len(expected)
    assert found


def test_what_is_no_image_gives_the_servers_message(
    example: Example, server: EmbeddedServer, tmp_path: Path
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    done = run(example, server, text)
    assert (done.returncode, done.stdout) == (1, "")
    assert "image 0: " in done.stderr
    assert "    at " not in done.stderr  # no stack trace


def test_a_file_that_is_not_there(example: Example, server: EmbeddedServer, tmp_path: Path) -> None:
    done = run(example, server, tmp_path / "missing.jpg")
    assert (done.returncode, done.stdout) == (1, "")
    assert "missing.jpg" in done.stderr


def test_no_server(example: Example, smear: Path, nowhere: str) -> None:
    name, command = example
    url = nowhere if name == "node, gRPC" else f"http://{nowhere}"
    done = subprocess.run(
        [*command, smear, url],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip()


def test_no_photo_is_wrong_usage(example: Example) -> None:
    done = subprocess.run(
        example[1], capture_output=True, text=True, env=ENVIRONMENT, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")


def test_the_trimmed_proto_has_tritons_names_and_numbers() -> None:
    text = (EXAMPLES / "node" / "inference.proto").read_text()
    messages = service_pb2.DESCRIPTOR.message_types_by_name
    numbers = {
        (field.name, field.number)
        for message in messages.values()
        for part in (message, *message.nested_types)
        for field in part.fields
        if isinstance(field, FieldDescriptor)
    }
    ours = {
        (words[-3], int(words[-1]))
        for line in text.splitlines()
        if (words := line.split("//")[0].rstrip(" ;\n").split())[-2:-1] == ["="]
        and words[-1].isdecimal()
    }
    assert len(ours) >= 10
    assert ours <= numbers
