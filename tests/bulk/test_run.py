"""The command itself, with the processes that it starts, some of which are killed in the middle."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from bulk.__main__ import main
from bulk.listing import NAME
from bulk.place import open_place
from tests.bulk.conftest import read_paths
from tests.conftest import PROJECT, wait_until

PHOTOS, PART = 120, 4
ENVIRONMENT = os.environ | {"PYTHONWARNINGS": "error"}


@pytest.fixture
def many(tmp_path: Path, smear: Path) -> Path:
    """A folder of PHOTOS photos, one of which cannot be read."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(PHOTOS - 1):
        (folder / f"{number:03}.jpg").symlink_to(smear)
    (folder / "bad.jpg").write_bytes(b"no photo")
    return folder


def command(photos: Path | str, output: Path | str, *options: str) -> list[str]:
    repository = PROJECT / "model_repository"
    return [
        *(sys.executable, "-m", "bulk", str(photos), "--output", str(output)),
        *("--local", str(repository), "--part", str(PART), *options),
    ]


@contextmanager
def begun(photos: Path, output: Path, *options: str) -> Iterator[psutil.Popen]:
    """The command, once it has made its first part and while others are to be made."""
    process = psutil.Popen(
        command(photos, output, *options),
        cwd=PROJECT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: parts(output) or process.poll() is not None)
        assert len(parts(output)) < PHOTOS // PART
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            process.kill()
        process.communicate()


def parts(output: Path) -> list[Path]:
    return sorted(output.glob("part-*.parquet"))


def find_workers(process: psutil.Popen) -> list[psutil.Process]:
    children = process.children(recursive=True)
    return [each for each in children if "spawn_main" in " ".join(each.cmdline())]


def finish(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


def expect_each_photo_once(photos: Path, output: Path) -> None:
    assert sorted(read_paths(output)) == sorted(path.name for path in photos.iterdir())


@pytest.mark.slow
def test_a_killed_worker_costs_no_photo_and_doubles_none(many: Path, tmp_path: Path) -> None:
    with begun(many, tmp_path / "found", "--workers", "2") as process:
        find_workers(process)[0].send_signal(signal.SIGKILL)
        _, said = process.communicate(timeout=300)
    assert f"{PHOTOS} photos, 1 of them rows with an error; " in said
    assert process.returncode == 1  # for the photo that cannot be read
    assert "Traceback" not in said
    expect_each_photo_once(many, tmp_path / "found")


@pytest.mark.slow
def test_the_same_command_goes_on_after_a_kill_and_does_nothing_twice(
    many: Path, tmp_path: Path
) -> None:
    output = tmp_path / "found"
    with begun(many, output, "--workers", "1") as process:
        workers = find_workers(process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    psutil.wait_procs(workers, timeout=60)
    assert not [each for each in workers if each.is_running()]
    before = {path: path.stat().st_mtime_ns for path in parts(output)}
    assert 0 < len(before) < PHOTOS // PART
    assert set(read_paths(output)) < {path.name for path in many.iterdir()}
    (many / "000.jpg").unlink()
    shutil.copy(many / "001.jpg", many / "late.jpg")
    done = finish(command(many, output, "--workers", "1"))
    left = PHOTOS - PART * len(before)
    assert f"{PHOTOS} photos, " in done.stderr
    assert f"error; {left} now, " in done.stderr
    assert "1 photos added, which are not taken in" in done.stderr
    assert "1 gone, 0 changed" in done.stderr
    assert done.returncode == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (many / "late.jpg").rename(many / "000.jpg")
    expect_each_photo_once(many, output)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """Address of a real scheduler of Dask with one worker."""
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = [*dask, "worker", "--scheduler-file", str(file), "--nthreads", "2", "--no-dashboard"]
    running = [
        subprocess.Popen(
            arguments, env=os.environ | {"PYTHONPATH": str(PROJECT)}, stderr=subprocess.DEVNULL
        )
        for arguments in ([*scheduler, "--scheduler-file", str(file)], worker)
    ]
    try:
        yield wait_until(
            lambda: json.loads(file.read_text())["address"],
            retry=(FileNotFoundError, json.JSONDecodeError),
        )
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(30)


@pytest.mark.slow
def test_a_cluster_reads_and_writes_buckets(
    cluster: str, s3: str, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, output = f"{s3}/cluster/in", f"{s3}/cluster/out"
    for name in ("a.jpg", "more/b.JPG", "notes.txt"):
        open_place(source).create(name, (photos / name).read_bytes())
    assert main(command(source, output, "--cluster", cluster)[3:]) == 0
    said = capfd.readouterr().err
    assert f"{source}: passed over 1 files that are no photos: 1 .txt" in said
    assert f"{output}: 2 photos; 2 now" in said
    names = sorted(each.path for each in open_place(output).entries())
    assert names == [NAME, "part-000000.parquet"]
    assert main(command(source, output, "--cluster", cluster)[3:]) == 0
    assert f"{output}: 2 photos; all of them before" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--part", "0"], 2, "--part must be 1 or more, found 0"),
        (["--workers", "-1"], 2, "--workers must be 0 or more, found -1"),
        (["--workers", "2", "--cluster", "tcp://h:1"], 2, "--workers is of this machine"),
        (["--version", "1", "--local", "None"], 2, "--version is of --local"),
        (["--version", "9"], 2, "version 9 expected"),
        (["--score-threshold", "2"], 2, "--score-threshold must be from 0 to 1, found 2.0"),
        (["--max-detections", "0"], 2, "--max-detections must be 1 or more, found 0"),
        (["--local", "nowhere"], 2, "nowhere: no such folder"),
        (["--cluster", "tcp://127.0.0.1:9"], 1, "no Dask scheduler answers at tcp://127.0.0.1:9"),
        (["--cluster", "ray://h:1"], 2, "expected the address of a Dask scheduler"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    options: list[str],
    code: int,
    message: str,
    photos: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bulk.engine.CONNECT_SECONDS", 0.5)
    assert main(command(photos, tmp_path / "found", *options)[3:]) == code
    last = capfd.readouterr().err.splitlines()[-1]
    assert message in last
    assert parts(tmp_path / "found") == []


def test_a_folder_without_photos_is_told_and_makes_no_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(command(tmp_path / "empty", tmp_path / "found")[3:]) == 1
    assert "empty: no photos there (.bmp .jpeg" in capsys.readouterr().err
    assert not (tmp_path / "found").exists()


def test_an_output_of_other_settings_is_refused(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bulk.engine.CONNECT_SECONDS", 0.5)
    away = ("--cluster", "tcp://127.0.0.1:9")
    assert main(command(photos, tmp_path / "found", *away)[3:]) == 1
    options = (*away, "--version", "1")
    assert main(command(photos, tmp_path / "found", *options)[3:]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "found was begun with network 2, sha256 " in said
    assert "which now is 1, sha256 " in said


def test_what_is_not_installed_is_named_with_the_line_that_installs_it() -> None:
    program = "import sys; sys.modules['distributed'] = None; from bulk.__main__ import main; "
    done = finish([sys.executable, "-c", f"{program}sys.exit(main(['photos', '--output', 'o']))"])
    assert done.returncode == 1
    assert done.stderr.startswith("bulk work needs packages of its own (")
    assert done.stderr.endswith("): pip install -c constraints.txt -e '.[bulk]'\n")
