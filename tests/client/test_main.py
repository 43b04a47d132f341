import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from client import Detection
from client.__main__ import main
from serving.server import EmbeddedServer
from tests.client.conftest import Service, answer_tensors, save_photo

COMMAND = [sys.executable, "-m", "client", "detect"]


def test_a_table_goes_to_the_output_and_nothing_to_the_error_stream(
    service: Service, photo: Path, cell: Detection, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer = lambda *_: answer_tensors([cell])
    assert main(["detect", str(photo), "--url", service.url]) == 0
    out, err = capsys.readouterr()
    assert f"{photo}  RBC            0.75    10.5    20.0   110.5   120.2\n" in out
    assert out.endswith("1 photo: 1 detection (1 RBC)\n")
    assert err == ""


def test_json_is_the_only_thing_on_the_output(
    service: Service, photo: Path, cell: Detection, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer = lambda *_: answer_tensors([cell])
    assert main(["detect", "--json", str(photo), "missing.jpg", "--url", service.url]) == 1
    found, missing = json.loads(capsys.readouterr().out)
    assert (found["file"], found["counts"]) == (str(photo), {"RBC": 1})
    assert missing == {"file": "missing.jpg", "error": "missing.jpg: no such file"}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["detect"],
        ["detect", "a.jpg", "--unknown"],
        ["detect", "a.jpg", "--timeout", "soon"],
        ["detect", "a.jpg", "--timeout", "0"],
        ["detect", "a.jpg", "--concurrency", "0"],
        ["detect", "a.jpg", "--url", "http://127.0.0.1:8001"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err


def exit_code(arguments: list[str]) -> int | str | None:
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code


def test_a_parameter_that_the_server_refuses_is_wrong_usage(
    service: Service, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.refuse(grpc.StatusCode.INVALID_ARGUMENT, "score_threshold must be 0 to 1, but is 7")
    assert main(["detect", str(photo), "--url", service.url, "--score-threshold", "7"]) == 2
    assert capsys.readouterr().err == "score_threshold must be 0 to 1, but is 7\n"


@pytest.mark.parametrize("arguments", [["--help"], ["detect", "--help"]])
def test_help_tells_what_a_newcomer_needs(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(arguments) == 0
    assert "detect" in capsys.readouterr().out.lower()


def test_a_server_away_is_one_sentence_and_fails_fast(nowhere: str, tmp_path: Path) -> None:
    for number in range(20):
        save_photo(tmp_path / f"{number}.jpg")
    done = run(["--url", nowhere, str(tmp_path)])
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"no Triton server answers at {nowhere}: nothing listens there.")


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)


def test_a_reader_that_goes_away_causes_no_stack_trace(
    service: Service, tmp_path: Path, cell: Detection
) -> None:
    service.answer = lambda *_: answer_tensors([cell] * 4)
    photo = str(save_photo(tmp_path / f"{'long' * 30}.jpg"))
    command = [*COMMAND, "--url", service.url, *[photo] * 300]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_an_interrupt_ends_cleanly_with_130(service: Service, photo: Path) -> None:
    service.answer = lambda *_: time.sleep(5) or answer_tensors()  # type: ignore[func-returns-value]
    command = [*COMMAND, "--url", service.url, *[str(photo)] * 50]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: bool(service.requests))
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        out, err = process.communicate(timeout=20)
        assert time.monotonic() - begin < 3
    assert (process.returncode, out, err) == (130, b"", b"")


def wait_until(ready: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_terminal_shows_progress_for_several_photos_only(service: Service, photo: Path) -> None:
    assert "photo/s" in errors_on_a_terminal(["--url", service.url, *[str(photo)] * 3])
    assert errors_on_a_terminal(["--url", service.url, str(photo)]) == ""


def errors_on_a_terminal(arguments: list[str]) -> str:
    """Return what the command writes to its error stream, which is a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    subprocess.run([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=theirs, timeout=60)
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 100_000):
            written += chunk
    except OSError:  # how Linux says that the terminal has no other end any more
        pass
    os.close(ours)
    return written.decode()


def test_a_file_name_of_any_bytes_is_printed(service: Service, tmp_path: Path) -> None:
    photo = save_photo(tmp_path / os.fsdecode(b"caf\xe9.jpg"))
    done = run(["--url", service.url, str(photo)])
    assert (done.returncode, done.stderr) == (0, "")
    assert r"caf\udce9.jpg" in done.stdout


# The real server.


def test_a_real_photo_gives_table_json_and_drawing(
    server: EmbeddedServer, smear: Path, tmp_path: Path
) -> None:
    table = run(["--url", server.grpc_url, str(smear)])
    document = run(
        ["--url", server.grpc_url, "--json", "--save", str(tmp_path / "drawn"), str(smear)]
    )
    assert (table.returncode, table.stderr) == (0, "")
    assert (document.returncode, document.stderr) == (0, "")
    (entry,) = json.loads(document.stdout)
    lines = [line for line in table.stdout.splitlines() if line.startswith(f"{smear}  ")]
    assert len(lines) == len(entry["detections"]) > 0
    assert (tmp_path / "drawn" / smear.name).stat().st_size > 0


def test_real_bad_photos_are_told_by_name(
    server: EmbeddedServer, smear: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no image")
    done = run(["--url", server.grpc_url, str(tmp_path), str(smear)])
    assert done.returncode == 1
    reasons = done.stderr.splitlines()
    assert [reason.split(": ")[0] for reason in reasons] == [
        str(tmp_path / "empty.jpg"),
        str(tmp_path / "text.jpg"),
    ]
    assert str(smear) in done.stdout
