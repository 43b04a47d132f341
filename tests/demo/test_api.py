"""`/detect`, as programs call it."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from client import Detector
from demo.api import detection_by
from tests.demo.program import Forwarder


@pytest.fixture(scope="module")
def api(address: str) -> Iterator[Client]:
    client = Client(address, verbose=False)
    yield client
    client.close()


def test_it_is_the_only_endpoint(api: Client) -> None:
    assert list(api.view_api(return_format="dict")["named_endpoints"]) == ["/detect"]


def test_it_answers_as_the_detector_does(api: Client, smear: Path, forwarder: Forwarder) -> None:
    with Detector(f"127.0.0.1:{forwarder.port}") as detector:
        expected = detector.detect(smear).to_dict()
        some = detector.detect(smear, score_threshold=0.9, iou_threshold=0.3, max_detections=2)
    photo = handle_file(str(smear))
    assert api.predict(photo, api_name="/detect") == expected
    settings = {"score_threshold": 0.9, "iou_threshold": 0.3, "max_detections": 2}
    assert api.predict(photo=photo, **settings, api_name="/detect") == some.to_dict()


def test_the_bytes_arrive_untouched(
    api: Client, smear: Path, forwarder: Forwarder, tmp_path: Path
) -> None:
    photo = tmp_path / "untouched.jpg"
    photo.write_bytes(smear.read_bytes() + b"\0\0")
    api.predict(handle_file(str(photo)), api_name="/detect")
    assert forwarder.images[-1] == photo.read_bytes()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"score_threshold": 7}, "score_threshold is 7"),
        ({"score_threshold": "high"}, "score_threshold must be a number, but got 'high'"),
        ({"max_detections": 1.5}, "max_detections must be a whole number, but got 1.5"),
        ({"max_detections": True}, "max_detections must be a number, but got True"),
    ],
)
def test_wrong_settings_are_told(
    api: Client, smear: Path, settings: dict[str, object], text: str
) -> None:
    with pytest.raises(AppError, match=text) as error:
        api.predict(handle_file(str(smear)), **settings, api_name="/detect")
    assert "Traceback" not in str(error.value)


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_what_json_calls_a_number_is_told(
    number: float, forwarder: Forwarder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "photo.jpg").touch()
    with (
        Detector(f"127.0.0.1:{forwarder.port}") as detector,
        pytest.raises(gr.Error, match="must be a whole number"),
    ):
        detection_by(detector)({"path": str(tmp_path / "photo.jpg")}, max_detections=number)


def test_a_file_that_is_no_photo_is_told(api: Client, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("no photo at all")
    with pytest.raises(AppError, match=r"notes\.txt cannot be used: Not an image"):
        api.predict(handle_file(str(notes)), api_name="/detect")


@pytest.mark.parametrize(
    "photo", ["/etc/hostname", {"path": "/etc/hostname"}, {"path": "\0"}, None, 7]
)
def test_no_other_file_is_read(api: Client, photo: object, forwarder: Forwarder) -> None:
    asked = len(forwarder.images)
    with pytest.raises(AppError, match="photo must be"):
        api.predict(photo, api_name="/detect")
    assert len(forwarder.images) == asked


def test_a_server_that_is_away_is_told(api: Client, smear: Path, forwarder: Forwarder) -> None:
    forwarder.stop()
    try:
        with pytest.raises(AppError, match="The Triton server is away"):
            api.predict(handle_file(str(smear)), api_name="/detect")
    finally:
        forwarder.start()
