"""Each missing prerequisite is one sentence that names the remedy."""

import re
import socket
from pathlib import Path

import pytest

from serving.errors import PrerequisiteError
from serving.server import prerequisites
from serving.server.prerequisites import check_variant, choose_models, choose_ports
from serving.server.tritonserver import Wheel, find_wheel


def test_this_machine_has_everything() -> None:
    assert prerequisites.check_machine().executable.is_file()


@pytest.mark.parametrize(
    ("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64"), ("Windows", "AMD64")]
)
def test_unsupported_processor_or_system_names_docker(system: str, machine: str) -> None:
    with pytest.raises(PrerequisiteError, match=f"this is {system} on {machine}.*docker compose"):
        prerequisites.check_platform(system, machine)


@pytest.mark.parametrize(("found", "words"), [((2, 31), "glibc 2.31"), (None, "another C library")])
def test_old_c_library_names_docker(found: tuple[int, int] | None, words: str) -> None:
    with pytest.raises(PrerequisiteError, match=f"has {words}.*docker compose"):
        prerequisites.check_glibc(found)


def test_new_c_library_is_fine() -> None:
    prerequisites.check_glibc((2, 35))


def test_wheel_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PrerequisiteError, match=r"nvidia-pytriton.*pip install"):
        find_wheel()


def test_no_stub_for_this_python(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match=r"Python 3\.11 or 3\.12, this is"):
        prerequisites.check_stub(Wheel(tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("prefix", "remedy"), [("/usr", "apt-get install libpython3"), ("/opt/py", "--enable-shared")]
)
def test_no_libpython(prefix: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "libpython", lambda: None)
    monkeypatch.setattr("sys.base_prefix", prefix)
    with pytest.raises(PrerequisiteError, match=remedy):
        prerequisites.check_libpython()


def test_numpy_2_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "version", lambda name: "2.1.0")
    with pytest.raises(PrerequisiteError, match=r"numpy below 2, found 2\.1\.0.*pip install"):
        prerequisites.check_numpy()


def test_no_shared_memory(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match=r"0 MiB free.*--shm-size"):
        prerequisites.check_shared_memory(tmp_path / "absent")


WHOLE = ["ensemble/config.pbtxt", "ensemble/1/.keep", "ssd/config.pbtxt", "ssd/2/model.onnx"]


def test_repository_missing() -> None:
    with pytest.raises(PrerequisiteError, match="models does not exist: name one with --repositor"):
        choose_models("models", [])


def test_folder_that_is_no_repository() -> None:
    with pytest.raises(PrerequisiteError, match=r"config\.pbtxt, found photo\.jpg: name one with"):
        choose_models("models", ["photo.jpg"])
    with pytest.raises(PrerequisiteError, match=r"no whole model: photos has no config\.pbtxt"):
        choose_models("models", ["photos/1.jpg"])


def test_whole_models() -> None:
    assert choose_models("models", [*WHOLE, "releases.json"]) == ["ensemble", "ssd"]


@pytest.mark.parametrize(
    ("files", "lack"),
    [
        (["half/1/model.onnx"], r"config\.pbtxt"),
        (["half/config.pbtxt"], "version folder with a file"),
        (["half a model/config.pbtxt", "half a model/1/model.onnx"], "name of letters, digits"),
        (["größe/config.pbtxt", "größe/1/model.onnx"], "name of letters, digits"),
        (["half/config.pbtxt", "half/labels.txt", "half/tmp/model.onnx"], "version folder"),
    ],
)
def test_half_made_models_are_left_out(files: list[str], lack: str) -> None:
    lines: list[str] = []
    assert choose_models("models", [*WHOLE, *files], lines.append) == ["ensemble", "ssd"]
    assert len(lines) == 1
    assert re.match(rf"(half|half a model|größe) is left out, it has no {lack}", lines[0])


@pytest.mark.parametrize(
    "key", ["", "15-characters--", "with space and 16", "with,comma and-16", "a=bcdefghijklmnop"]
)
def test_admin_key_that_would_break_the_command_line(key: str) -> None:
    with pytest.raises(PrerequisiteError, match="admin key must be"):
        prerequisites.check_admin_key(key)


def test_ports_are_chosen_apart() -> None:
    ports = choose_ports(dict.fromkeys(("--a-port", "--b-port"), ("127.0.0.1", 0)))
    assert len(set(ports.values())) == 2


def test_port_in_use_is_named_by_its_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PrerequisiteError, match=f"--grpc-port {port} .*another --grpc-port"):
            choose_ports({"--grpc-port": ("127.0.0.1", port)})


def test_same_port_for_two_options() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(PrerequisiteError, match=f"--b-port {port}"):
        choose_ports({"--a-port": ("127.0.0.1", port), "--b-port": ("127.0.0.1", port)})


@pytest.mark.parametrize(("address", "port"), [("127.0.0.1", 70000), ("192.0.2.1", 0)])
def test_port_or_address_that_does_not_exist(address: str, port: int) -> None:
    with pytest.raises(PrerequisiteError, match=f"--http-port {port} cannot be used on {address}"):
        choose_ports({"--http-port": (address, port)})


def test_variant() -> None:
    files = [
        *WHOLE,
        "ssd/configs/gpu.pbtxt",
        "ssd/configs/tuned.pbtxt",
        "ensemble/configs/gpu.pbtxt",
    ]
    check_variant("models", files, "")
    check_variant("models", files, "gpu")
    there = r"'tund'.*configs/tund\.pbtxt, there is gpu \(of ensemble, ssd\), tuned \(of ssd\)"
    with pytest.raises(PrerequisiteError, match=there):
        check_variant("models", files, "tund")
    with pytest.raises(PrerequisiteError, match="no variant at all"):
        check_variant("models", WHOLE, "tuned")
