"""The command line's videos, camera and tiles."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from client import Detection, InvalidImage, InvalidParameter
from client.detect.command import run_detect
from client.detect.settings import Detect
from tests.client.clips import numbered, read_clip, save_clip
from tests.client.conftest import Service, answer_tensors
from tests.conftest import PROJECT


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return save_clip(tmp_path / "clip.mp4", [numbered(n) for n in range(6)])


def test_a_video_is_drawn_beside_the_photos(
    service: Service,
    photo: Path,
    clip: Path,
    cell: Detection,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service.answer = lambda *_: answer_tensors([cell], size=(48, 64))
    assert run_detect(Detect((photo, clip), url=service.url, save=tmp_path / "drawn")) == 0
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        "clip.webm",
        "photo.jpg",
    ]
    assert len(read_clip(tmp_path / "drawn" / "clip.webm")) == 6
    out = capsys.readouterr().out
    assert "1 photo: 1 detection" in out
    assert f"{clip}: 6 frames" in out


def test_a_video_lets_others_pass(service: Service, clip: Path) -> None:
    assert run_detect(Detect((clip,), url=service.url)) == 0
    assert {headers["priority"] for headers in service.headers} == {"u=7"}


def test_a_video_needs_no_server(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = PROJECT / "model_repository"
    assert run_detect(Detect((clip,), local=repository)) == 0
    assert "6 frames" in capsys.readouterr().out


def test_a_video_is_not_overwritten_by_its_own_drawing(
    service: Service, clip: Path, tmp_path: Path
) -> None:
    assert run_detect(Detect((clip,), url=service.url, save=tmp_path / "drawn")) == 0
    again = tmp_path / "drawn" / "clip.webm"
    content = again.read_bytes()
    assert run_detect(Detect((again, clip), url=service.url, save=again.parent)) == 0
    assert again.read_bytes() == content
    assert len(list(again.parent.iterdir())) == 3


def test_a_bad_video_is_told_and_the_others_go_on(
    service: Service, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"hello")
    missing = tmp_path / "missing.avi"
    assert run_detect(Detect((tmp_path / "bad.mp4", missing, clip), url=service.url)) == 1
    out, err = capsys.readouterr()
    assert "bad.mp4: not a video that can be read" in err
    assert f"{missing}: No such file" in err
    assert "6 frames" in out


def test_json_of_a_video_has_a_line_per_frame(
    service: Service, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_detect(Detect((clip,), url=service.url, json=True)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(6))


def test_json_of_photos_and_videos_at_once_is_wrong_usage(photo: Path, clip: Path) -> None:
    with pytest.raises(InvalidParameter, match="not both at once"):
        run_detect(Detect((photo, clip), json=True))


def test_an_output_of_videos_is_wrong_usage(clip: Path) -> None:
    with pytest.raises(InvalidParameter, match="--output is of photos"):
        run_detect(Detect((clip,), output=Path("found.csv")))


def test_nothing_at_all_is_wrong_usage() -> None:
    with pytest.raises(InvalidParameter, match="name at least one photo, video or folder"):
        run_detect(Detect(photos=()))


def test_a_camera_that_is_not_there_is_told(service: Service) -> None:
    with pytest.raises(InvalidImage, match="camera 99: cannot be opened"):
        run_detect(Detect(photos=(), url=service.url, camera="99"))
    assert service.requests == []


def test_a_large_photo_is_sent_in_tiles(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = tmp_path / "large.png"
    cv2.imwrite(str(large), np.full((600, 900, 3), 255, np.uint8))
    (tmp_path / "bad.jpg").write_bytes(b"hello")
    assert run_detect(Detect((tmp_path / "bad.jpg", large), url=service.url, tile=600)) == 1
    assert len(service.requests) == 1 + 2
    out, err = capsys.readouterr()
    assert "bad.jpg: cannot be decoded" in err
    assert f"{large}  (nothing found)" in out
