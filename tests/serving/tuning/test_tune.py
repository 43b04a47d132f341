"""What is written and what is refused; and one whole run on a real server."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import psutil
import pytest

from serving.__main__ import main
from serving.errors import StoreError, TuneError
from serving.model_config import read_config
from serving.repository import Repository, open_repository
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.address import open_store
from serving.store.base import Store
from serving.store.folder import FolderStore
from serving.tuning import candidates, choice
from serving.tuning import tune as tuning
from serving.tuning.candidates import AS_IS, Candidate
from serving.tuning.measurement import Result
from serving.tuning.tune import (
    TuneSettings,
    check_place,
    check_settings,
    provide_photos,
    tune,
    write_best,
    write_tuned,
)
from tests.conftest import PROJECT, wait_until
from tests.serving.tuning.test_choice import ONE, TWO, result


@pytest.fixture
def store(tiny_repository: Path) -> Store:
    return open_store(tiny_repository)


def open_task(store: Store) -> Repository:
    return open_repository(store, "ensemble")


def files(store: Store) -> dict[str, bytes]:
    return {path: store.read(path) for path in store.files(hidden=True)}


def test_written_for_the_models_that_differ(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    repository, settings = open_task(store), TuneSettings(repository=store.address)
    write_best(repository, settings, [[result(AS_IS, 100), result(TWO, 150)]])
    told = capsys.readouterr().out
    assert "best: 2 instances, threads 1, 1 of preprocess, batches alone: 150.0 photos/s" in told
    assert "as it is: " in told
    assert f"up --repository {store.address} --model-config-name tuned" in told
    text = store.read("ssd/configs/tuned.pbtxt").decode()
    assert text.startswith("# Made by `serving tune`: 2 instances")
    tuned = read_config(store, "ssd", "tuned")
    assert tuned.parameters["intra_op_thread_count"].string_value == "1"
    as_it_is = read_config(store, "ssd")
    as_it_is.parameters.pop("threads_follow_load")
    assert tuned == as_it_is
    assert read_config(store, "preprocess", "tuned").instance_group[0].count == 2
    assert write_tuned(repository, ONE, "tuned", "# Made\n") == ["ssd/configs/tuned.pbtxt"]
    assert "preprocess/configs/tuned.pbtxt" not in store.files()  # it would be in force


def test_nothing_to_write(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(store)
    settings = TuneSettings(repository=store.address)
    write_best(open_task(store), settings, [[result(AS_IS, 100)]])
    assert "as it is needs no variant" in capsys.readouterr().out
    assert files(store) == before


@pytest.mark.parametrize(
    ("results", "told"),
    [
        ([result(AS_IS, 9, ms=30)], r"within 20 ms; the nearest: 2 inst.* p99 30\.0 ms.*Nothing w"),
        ([result(AS_IS, 9, trouble="no memory")], "no settings work, first: no memory"),
    ],
)
def test_target_that_nothing_meets(store: Store, results: list[Result], told: str) -> None:
    before = files(store)
    settings = TuneSettings(repository=store.address, latency=20.0)
    with pytest.raises(TuneError, match=told):
        write_best(open_task(store), settings, [results])
    assert files(store) == before


def test_writing_that_fails_half_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = open_task(store)
    write_tuned(repository, TWO, "tuned", "# Made by `serving tune`\n")
    before, put = files(store), FolderStore.write

    def fail(self: FolderStore, path: str, data: bytes) -> None:
        if path.startswith("preprocess") and b"count: 3" in data:
            raise StoreError("no space left")
        put(self, path, data)

    monkeypatch.setattr(FolderStore, "write", fail)
    with pytest.raises(StoreError, match="no space left"):
        write_tuned(repository, Candidate(instances=1, decoders=3), "tuned", "# Made again\n")
    assert files(store) == before


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"name": "../x"}, "--name must be letters"),
        ({"seconds": 0.0}, "--seconds must be more than 0"),
        ({"latency": -1.0}, "--latency must be 0 or more"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], told: str) -> None:
    with pytest.raises(TuneError, match=told):
        check_settings(TuneSettings(**settings))  # type: ignore[arg-type]


def test_variant_of_somebody_else_stays(store: Store) -> None:
    repository = open_task(store)
    with pytest.raises(TuneError, match=r"ssd/configs/gpu\.pbtxt was not made by `serving tune`"):
        check_place(repository, "gpu")
    write_tuned(repository, ONE, "tuned", "# Made by `serving tune`\n")
    check_place(repository, "tuned")


def test_repository_that_is_read_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(TuneError, match="ssd is read-only"):
        check_place(open_task(store), "tuned")


def test_generated_photos(tmp_path: Path) -> None:
    with provide_photos(None) as paths:
        assert len(paths) == 4
        for path in paths:
            image = cv2.imread(str(path))
            assert image is not None
            assert image.shape == (480, 640, 3)
    assert not any(path.exists() for path in paths)
    with provide_photos([tmp_path / "mine.jpg"]) as paths:
        assert paths == [tmp_path / "mine.jpg"]


def test_no_photo_and_exit_code(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    arguments = ["tune", "--repository", store.address, "--photos", str(tmp_path / "photos")]
    assert main(arguments) == 1
    assert "photos is no folder with photos" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_whole_run(
    place: str,
    store: Store,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One step of two candidates: as it is, and one that is taken however fast it is."""
    if place == "s3":
        address = request.getfixturevalue("s3")
        open_store(address).create(Path(store.address))
        store = open_store(address)
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "good.jpg").write_bytes((PROJECT / "samples" / "smear-1.jpg").read_bytes())
    (photos / "junk.jpg").write_bytes(b"junk")
    monkeypatch.setattr(tuning, "ROUNDS", 1)
    monkeypatch.setattr(choice, "MARGIN", -1.0)  # whatever runs is better
    monkeypatch.setattr(candidates, "plan_steps", lambda _: [lambda _: [TWO]])
    monkeypatch.setattr(candidates, "choose_levels", lambda _: [2])
    tune(TuneSettings(repository=store.address, photos=photos, seconds=0.5, name="mine"))
    told = capsys.readouterr().out
    assert "1 of 2 photos are left out, first junk.jpg: " in told
    assert "wrote ssd/configs/mine.pbtxt, preprocess/configs/mine.pbtxt; use it" in told
    with (
        EmbeddedServer(ServerSettings(store.address, model_config_name="mine")) as server,
        server.control() as control,
    ):
        assert (control.instances("ssd"), control.instances("preprocess")) == (2, 2)


def is_measuring(pid: int) -> bool:
    """Whether the command's private server is under load."""
    children = psutil.Process(pid).children()
    return any("serving.tuning.load_generator" in child.cmdline() for child in children)


def test_ctrl_c_writes_nothing(store: Store) -> None:
    before = files(store)
    command = [sys.executable, "-m", "serving", "tune", "--repository", store.address]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("measuring on ")
        wait_until(lambda: is_measuring(process.pid))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert files(store) == before
