import json
from pathlib import Path

import grpc
import pytest

from client import Detection, DetectorError, InvalidParameter, ServerUnavailable, drawing
from client.command import Detect, run
from tests.client.conftest import Service, answer_tensors, save_photo


def test_no_photos_are_wrong_usage() -> None:
    with pytest.raises(InvalidParameter, match="at least one photo"):
        run(Detect(photos=()))


def test_a_folder_without_images_is_told_and_is_a_failure(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(Detect(photos=(tmp_path,), url=service.url)) == 1
    assert "a folder without images (.bmp .jpeg" in capsys.readouterr().err
    assert service.requests == []


def test_the_settings_reach_the_server(service: Service, photo: Path) -> None:
    given = Detect(
        (photo,), service.url, "canary", score_threshold=0.25, iou_threshold=0.5, max_detections=7
    )
    assert run(given) == 0
    (request,) = service.requests
    assert request.model_name == "canary"
    assert request.parameters["score_threshold"].double_param == 0.25
    assert request.parameters["iou_threshold"].double_param == 0.5
    assert request.parameters["max_detections"].int64_param == 7


def test_a_canary_key_holds_for_all_photos(
    service: Service, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.canary = {"canary_version": "7", "canary_share": "1"}
    assert run(Detect((photo, photo), service.url, json=True, canary_key="user 42")) == 0
    assert [found["model"] for found in json.loads(capsys.readouterr().out)] == [
        "ensemble_canary"
    ] * 2
    assert service.asked == 1


def test_a_bad_photo_is_told_and_the_others_go_on(
    service: Service, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(Detect((tmp_path / "missing.jpg", photo), service.url)) == 1
    out, err = capsys.readouterr()
    assert err == f"{tmp_path / 'missing.jpg'}: no such file\n"
    assert f"{photo}  " in out


@pytest.mark.parametrize("url_of", ["nowhere", "stopping"])
def test_a_server_away_ends_the_run_at_the_first_photo(
    service: Service, nowhere: str, photo: Path, url_of: str
) -> None:
    service.refuse(grpc.StatusCode.UNAVAILABLE, "Server is stopping")
    url = nowhere if url_of == "nowhere" else service.url
    with pytest.raises(ServerUnavailable):
        run(Detect((photo,) * 100, url))
    assert len(service.requests) <= 8


def test_drawn_photos_are_saved_and_inputs_stay(
    service: Service, photo: Path, cell: Detection
) -> None:
    service.answer = lambda *_: answer_tensors([cell], size=(48, 64))
    content = photo.read_bytes()
    assert run(Detect((photo,), service.url, save=photo.parent)) == 0
    saved = drawing.read(photo.parent / "photo-2.jpg")
    assert photo.read_bytes() == content
    assert saved.shape == (48, 64, 3)
    assert (saved != drawing.read(photo)).any()


def test_saving_again_saves_the_same_files(service: Service, tmp_path: Path) -> None:
    for name in ("a/photo.jpg", "b/photo.png", "b/photo.jpg"):
        save_photo(tmp_path / name)
    for _ in range(2):
        assert run(Detect((tmp_path,), service.url, save=tmp_path / "drawn")) == 0
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert names == ["photo-2.jpg", "photo.jpg", "photo.png"]


def test_a_photo_that_cannot_be_drawn_is_a_bad_one(
    service: Service, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.jpg").write_bytes(b"the server reads it, OpenCV does not")
    assert run(Detect((tmp_path / "odd.jpg", photo), service.url, save=tmp_path / "drawn")) == 1
    assert "odd.jpg: cannot be decoded for drawing" in capsys.readouterr().err
    assert (tmp_path / "drawn" / "photo.jpg").exists()


def test_a_folder_to_save_in_that_cannot_be_one_is_told_before_any_request(
    service: Service, photo: Path
) -> None:
    with pytest.raises(InvalidParameter, match=r"--save .*photo\.jpg: File exists"):
        run(Detect((photo,), service.url, save=photo))
    assert service.requests == []


def test_a_picture_that_cannot_be_saved_ends_the_run(
    service: Service, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "drawn" / "photo.jpg").mkdir(parents=True)
    with pytest.raises(DetectorError, match="cannot be saved: Is a directory"):
        run(Detect((photo,), service.url, save=tmp_path / "drawn"))
