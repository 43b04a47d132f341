"""`python app.py` starts, says in one sentence what is wrong, and stops. Its page: tests/demo."""

import shutil
import site
import socket
import subprocess
import time
import venv
from pathlib import Path

import httpx
import pytest

import app
from client import Detector
from serving.server.server import EmbeddedServer, SlowStartError
from tests.demo.program import PROJECT, Program, free_port
from tests.serving.tiny_network import write_artifact


def free_ports() -> list[str]:
    names = ("--http-port", "--grpc-port", "--metrics-port")
    return [part for name in names for part in (name, str(free_port()))]


@pytest.mark.slow
def test_embedded_starts_and_stops_both(smear: Path) -> None:
    ports = free_ports()
    program = Program("--embedded", *ports)
    assert program.address == f"http://127.0.0.1:{program.port}"
    with Detector(f"127.0.0.1:{ports[3]}") as detector:
        detector.detect(smear)
    assert program.stop() == 0
    assert "Traceback" not in program.printed
    for port in (program.port, *map(int, ports[1::2])):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


@pytest.mark.slow
def test_what_was_trained_is_served_with_its_page(tmp_path: Path, smear: Path) -> None:
    """As `training run` leaves it: the artifact in int8, photos to click on in samples."""
    mine, ports = tmp_path / "mine", free_ports()
    (mine / "samples").mkdir(parents=True)
    shutil.copyfile(smear, mine / "samples" / "held-out.JPG")
    write_artifact(mine / "int8", ("cat & dog", "bird"), size=160, keep=10)
    program = Program("--artifact", str(mine), *ports)
    page = httpx.get(program.address).text
    assert r"This model finds cat \u0026amp; dog, bird." in page
    assert "held-out.JPG" in page
    assert "smear" not in page
    with Detector(f"127.0.0.1:{ports[3]}") as detector:
        assert {found.label for found in detector.detect(smear).detections} <= {"cat & dog", "bird"}
    assert program.stop() == 0
    assert "Traceback" not in program.printed


@pytest.mark.parametrize("broken", [False, True])
def test_an_artifact_that_is_not_whole_is_one_sentence(broken: bool, tmp_path: Path) -> None:
    if broken:
        write_artifact(tmp_path / "int8", ("cat",))
        (tmp_path / "int8" / "labels.txt").unlink()
    expected = "labels.txt is missing" if broken else "holds no artifact, nor does its folder int8"
    with pytest.raises(app.AppError, match=expected):
        app.with_artifact(app.AppSettings(artifact=tmp_path), tmp_path / "models")


def test_an_artifact_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(app.AppError, match="mien does not exist"):
        app.with_artifact(app.AppSettings(artifact=tmp_path / "mien"), tmp_path / "models")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project in a folder as people have them, its environment made, of the packages here."""
    folder = tmp_path / "My Projects" / "größe"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (PROJECT / name).exists():  # else it was removed and that is not committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, folder / name, follow_symlinks=False)
    venv.create(folder / ".venv", symlinks=True)
    (packages,) = (folder / ".venv").glob("lib/python3*/site-packages")
    packages.rmdir()
    packages.symlink_to(site.getsitepackages()[0])
    (folder / ".venv" / ".demo").touch()
    return folder


@pytest.mark.slow
def test_make_demo_in_a_folder_of_any_name(
    checkout: Path, smear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    ports = free_ports()
    program = Program(*ports, checkout=checkout)
    assert program.address == f"http://127.0.0.1:{program.port}"
    with Detector(f"127.0.0.1:{ports[3]}") as detector:
        assert detector.detect(smear).detections
    program.stop()
    assert "Traceback" not in program.printed


def test_a_server_that_takes_too_long_gets_advice_that_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_slow(server: EmbeddedServer) -> None:
        raise SlowStartError("tritonserver was not ready after 120 s")

    monkeypatch.setattr(EmbeddedServer, "start", too_slow)
    with (
        pytest.raises(app.AppError, match="python -m serving up --start-seconds 600"),
        app.triton(app.AppSettings(embedded=True)),
    ):
        pass


@pytest.mark.slow
def test_it_rests_while_nobody_uses_it() -> None:
    program = Program("--url", f"127.0.0.1:{free_port()}")
    assert program.address
    before = wakings(program.process.pid)
    time.sleep(4)
    assert wakings(program.process.pid) - before < 400
    program.stop()


def wakings(pid: int) -> int:
    """How often the threads of a process have waited for something and gone on."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(text.split("voluntary_ctxt_switches:")[1].split()[0]) for text in texts)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--port", "--grpc-port"])
def test_a_port_in_use_is_one_sentence(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        program = Program("--embedded", *free_ports(), option, port)
        printed = program.process.communicate(timeout=60)[0].strip()
    assert program.process.returncode == 1
    assert port in printed
    assert "Traceback" not in printed
    assert "app.py: " in printed.splitlines()[-1]


@pytest.mark.slow
def test_a_wrong_address_is_wrong_usage() -> None:
    program = Program("--url", "ftp://127.0.0.1:8001")
    printed = program.process.communicate(timeout=60)[0].strip()
    assert program.process.returncode == 2
    assert len(printed.splitlines()) == 1
