import itertools
import json
import re
from pathlib import Path
from typing import Any

import grpc
import pytest

from client import (
    DeadlineExceeded,
    Detection,
    DetectorError,
    InvalidParameter,
    ServerError,
    ServerUnavailable,
    drawing,
)
from client.detect.command import run_detect
from client.detect.settings import Detect
from client.transports.security_options import SecurityOptions
from tests.client.conftest import Service, answer_tensors, save_photo


def test_a_key_is_sent(service: Service, photo: Path) -> None:
    options = SecurityOptions(api_key="secret", api_key_header="X-Key")
    assert run_detect(Detect((photo,), service.url, security=options)) == 0
    assert [headers["x-key"] for headers in service.headers] == ["secret"]


@pytest.mark.parametrize(
    ("photos", "output", "priority"),
    [
        (["photo.jpg"], None, None),
        (["photo.jpg"], "found.csv", "u=7"),
        (["photo.jpg", "photo.jpg"], None, "u=7"),
        (["."], None, "u=7"),
    ],
)
def test_only_one_photo_is_somebody_waiting(
    service: Service, tmp_path: Path, photos: list[str], output: str | None, priority: str | None
) -> None:
    for name in ("photo.jpg", "other.jpg"):
        save_photo(tmp_path / name)
    paths = tuple(tmp_path / name for name in photos)
    file = tmp_path / output if output else None
    assert run_detect(Detect(paths, service.url, output=file)) == 0
    assert {headers.get("priority") for headers in service.headers} == {priority}


def test_no_photos_are_wrong_usage() -> None:
    with pytest.raises(InvalidParameter, match="at least one photo"):
        run_detect(Detect(photos=()))


def test_a_folder_without_images_is_told_and_is_a_failure(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_detect(Detect(photos=(tmp_path,), url=service.url)) == 1
    assert "a folder without images (.bmp .jpeg" in capsys.readouterr().err
    assert service.requests == []


def test_what_is_passed_over_in_a_folder_is_told(
    service: Service, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_detect(Detect((photo.parent,), service.url)) == 0
    assert "passed over" not in capsys.readouterr().err
    for name in ("IMG_1.HEIC", "clip.mp4", ".DS_Store"):
        (photo.parent / name).touch()
    assert run_detect(Detect((photo.parent,), service.url)) == 0
    told = f"{photo.parent}: passed over 2 files: IMG_1.HEIC, clip.mp4\n"
    assert told in capsys.readouterr().err
    for number in range(2, 9):
        (photo.parent / f"IMG_{number}.HEIC").touch()
    assert run_detect(Detect((photo.parent,), service.url)) == 0
    assert "passed over 9 files: IMG_1.HEIC, IMG_2.HEIC, " in (err := capsys.readouterr().err)
    assert err.rstrip().endswith(", ...")


def test_the_settings_reach_the_server(service: Service, photo: Path) -> None:
    given = Detect(
        (photo,), service.url, "canary", score_threshold=0.25, iou_threshold=0.5, max_detections=7
    )
    assert run_detect(given) == 0
    (request,) = service.requests
    assert request.model_name == "canary"
    assert request.parameters["score_threshold"].double_param == 0.25
    assert request.parameters["iou_threshold"].double_param == 0.5
    assert request.parameters["max_detections"].int64_param == 7


def test_a_canary_key_holds_for_all_photos(
    service: Service, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.canary = {"canary_version": "7", "canary_share": "1"}
    assert run_detect(Detect((photo, photo), service.url, json=True, canary_key="user 42")) == 0
    assert [found["model"] for found in json.loads(capsys.readouterr().out)] == [
        "ensemble_canary"
    ] * 2
    assert service.asked == 1


def test_a_bad_photo_is_told_and_the_others_go_on(
    service: Service, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_detect(Detect((tmp_path / "missing.jpg", photo), service.url)) == 1
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
        run_detect(Detect((photo,) * 100, url))
    assert len(service.requests) < 100 * 4  # each has its retries


def test_drawn_photos_are_saved_and_inputs_stay(
    service: Service, photo: Path, cell: Detection
) -> None:
    service.answer = lambda *_: answer_tensors([cell], size=(48, 64))
    content = photo.read_bytes()
    assert run_detect(Detect((photo,), service.url, save=photo.parent)) == 0
    saved = drawing.read(photo.parent / "photo-2.jpg")
    assert photo.read_bytes() == content
    assert saved.shape == (48, 64, 3)
    assert (saved != drawing.read(photo)).any()


def test_saving_again_saves_the_same_files(service: Service, tmp_path: Path) -> None:
    for name in ("a/photo.jpg", "b/photo.png", "b/photo.jpg"):
        save_photo(tmp_path / name)
    for _ in range(2):
        assert run_detect(Detect((tmp_path,), service.url, save=tmp_path / "drawn")) == 0
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert names == ["photo-2.jpg", "photo.jpg", "photo.png"]


def test_a_photo_that_cannot_be_drawn_is_a_bad_one(
    service: Service, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.jpg").write_bytes(b"the server reads it, OpenCV does not")
    assert (
        run_detect(Detect((tmp_path / "odd.jpg", photo), service.url, save=tmp_path / "drawn")) == 1
    )
    assert "odd.jpg: cannot be decoded for drawing" in capsys.readouterr().err
    assert (tmp_path / "drawn" / "photo.jpg").exists()


def test_a_folder_to_save_in_that_cannot_be_one_is_told_before_any_request(
    service: Service, photo: Path
) -> None:
    with pytest.raises(InvalidParameter, match=r"--save .*photo\.jpg: File exists"):
        run_detect(Detect((photo,), service.url, save=photo))
    assert service.requests == []


def test_a_picture_that_cannot_be_saved_ends_the_run(
    service: Service, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "drawn" / "photo.jpg").mkdir(parents=True)
    with pytest.raises(DetectorError, match="cannot be saved: Is a directory"):
        run_detect(Detect((photo,), service.url, save=tmp_path / "drawn"))


def with_output(service: Service, folder: Path, output: Path, **settings: Any) -> int:
    return run_detect(Detect((folder,), service.url, output=output, **settings))


def read_image(request, context):
    """Answer as the real server does: an image of the bytes `text` is none."""
    if request.raw_input_contents[0].endswith(b"text"):
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "image 0: no image")
    return answer_tensors()


@pytest.fixture
def folder(service: Service, tmp_path: Path) -> Path:
    """Nine photos, the fifth of which is none."""
    service.answer = read_image
    for number in range(1, 10):
        save_photo(tmp_path / "photos" / f"{number}.jpg")
    (tmp_path / "photos" / "5.jpg").write_text("text")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "csv"}, "go with --output"),
        ({"resume": True}, "go with --output"),
        ({"output": Path("found.csv"), "json": True}, "--json goes to the standard output"),
        ({"output": Path("found")}, "--format; a folder is"),
    ],
)
def test_settings_that_contradict_each_other_are_wrong_usage(
    service: Service, photo: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParameter, match=message):
        run_detect(Detect((photo,), service.url, **settings))
    assert service.requests == []


def test_a_folder_without_images_makes_no_output(service: Service, tmp_path: Path) -> None:
    assert with_output(service, tmp_path, tmp_path / "found.csv") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_output_tells_what_it_holds(
    service: Service, tmp_path: Path, cell: Detection, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer = lambda *_: answer_tensors([cell])
    for number in range(3):
        save_photo(tmp_path / "photos" / f"{number}.jpg")
    (tmp_path / "photos" / "text.jpg").mkdir()
    assert with_output(service, tmp_path / "photos", tmp_path / "found.csv") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r".*found\.csv: 3 photos, 0 failed, \d+\.\d photos/s\n", err)
    assert len((tmp_path / "found.csv").read_text().splitlines()) == 4


def test_a_photo_named_twice_is_in_an_output_once(
    service: Service, photo: Path, tmp_path: Path
) -> None:
    assert (
        run_detect(Detect((photo, photo.parent), service.url, output=tmp_path / "found.jsonl")) == 0
    )
    assert len((tmp_path / "found.jsonl").read_text().splitlines()) == 1


def test_the_photos_of_an_output_are_not_read_again(
    service: Service, photo: Path, tmp_path: Path
) -> None:
    assert with_output(service, tmp_path, tmp_path / "voc", format="voc") == 0
    assert len(service.requests) == 1
    left = [tmp_path / name for name in ("voc/JPEGImages/photo.jpg", ".two.partial/a.jpg")]
    left[1].parent.mkdir()
    left[1].write_bytes(left[0].read_bytes())
    (tmp_path / "voc").rename(tmp_path / "two")
    with pytest.raises(InvalidParameter, match="two exists already"):
        with_output(service, tmp_path, tmp_path / "two", format="voc")
    (tmp_path / "two").rename(tmp_path.parent / f"{tmp_path.name}-away")
    assert with_output(service, tmp_path, tmp_path / "two", format="voc") == 0
    assert len(service.requests) == 2


class Moody:
    """Reads images, but fails at the requests of these numbers."""

    def __init__(self, status: grpc.StatusCode, *numbers: int) -> None:
        self._count = itertools.count(1)
        self._status, self._numbers = status, numbers

    def __call__(self, request, context):
        if next(self._count) in self._numbers:
            context.abort(self._status, "not now")
        return read_image(request, context)


def test_an_interrupted_run_goes_on_where_it_ended(
    service: Service, folder: Path, tmp_path: Path
) -> None:
    with_output(service, folder, tmp_path / "whole.jsonl")
    service.answer = Moody(grpc.StatusCode.UNAVAILABLE, *range(7, 99))
    output = tmp_path / "found.jsonl"
    with pytest.raises(ServerUnavailable) as raised:
        with_output(service, folder, output, concurrency=1)
    assert raised.value.__notes__[0].startswith("Photos done: 6, kept in ")
    assert not output.exists()
    service.answer = read_image
    service.requests.clear()
    assert with_output(service, folder, output, resume=True) == 1
    assert len(service.requests) == 4  # the fifth again, and the last three
    assert output.read_text() == (tmp_path / "whole.jsonl").read_text()


def test_a_resumed_run_must_have_the_same_settings(
    service: Service, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "found.jsonl"
    assert with_output(service, folder, output) == 1  # the fifth photo
    with pytest.raises(InvalidParameter, match="begun with iou_threshold None"):
        with_output(service, folder, output, resume=True, iou_threshold=0.3)


def test_failed_photos_are_tried_again(
    service: Service, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "found.jsonl"
    assert with_output(service, folder, output) == 1
    assert "9 photos, 1 failed (--resume tries them again)" in capsys.readouterr().err
    save_photo(folder / "5.jpg")
    service.requests.clear()
    assert with_output(service, folder, output, resume=True) == 0
    assert len(service.requests) == 1
    assert [Path(json.loads(line)["file"]).stem for line in output.read_text().splitlines()] == [
        *"123456789"
    ]
    assert not (tmp_path / "found.jsonl.journal").exists()


@pytest.mark.parametrize(
    ("status", "first"),
    [(grpc.StatusCode.INTERNAL, 2), (grpc.StatusCode.DEADLINE_EXCEEDED, 1)],
)
def test_a_server_that_stumbles_over_a_photo_does_not_end_the_run(
    service: Service,
    photo: Path,
    status: grpc.StatusCode,
    first: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service.answer = Moody(status, first, first + 2, first + 4)
    assert run_detect(Detect((photo,) * 8, service.url, concurrency=1)) == 1
    assert len(service.requests) == 8
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_server_that_goes_on_failing_ends_the_run(service: Service, photo: Path) -> None:
    service.answer = Moody(grpc.StatusCode.INTERNAL, *range(2, 99))
    with pytest.raises(ServerError, match="not now"):
        run_detect(Detect((photo,) * 90, service.url, concurrency=2))
    assert len(service.requests) < 90


def test_a_failure_that_stays_does_not_keep_a_run_from_being_resumed(
    service: Service, photo: Path, tmp_path: Path
) -> None:
    """The photo comes first again, and the others still have their turn."""
    photos = [save_photo(tmp_path / f"{number}.jpg") for number in range(4)]
    settings = Detect(
        tuple(photos), service.url, concurrency=1, output=tmp_path / "found.csv", resume=True
    )
    service.answer = Moody(grpc.StatusCode.DEADLINE_EXCEEDED, 1, 3, 4)
    with pytest.raises(DeadlineExceeded):
        run_detect(settings)
    service.answer = Moody(grpc.StatusCode.INTERNAL, 1)
    assert run_detect(settings) == 1
    assert len((tmp_path / "found.csv.journal").read_text().splitlines()) == 7


def test_coco_ids_choose_the_photos(
    service: Service, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "truth.json").write_text(
        '{"images": [{"id": 8, "file_name": "photos/7.jpg"}], "categories": []}'
    )
    output, ids = tmp_path / "found.json", tmp_path / "truth.json"
    assert with_output(service, folder, output, coco_ids=ids) == 0
    assert len(service.requests) == 1
    assert f"8 photos are not in {ids}: left out" in capsys.readouterr().err
