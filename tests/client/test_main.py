import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import grpc
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from client import Detection
from client.__main__ import main
from serving.server.server import EmbeddedServer
from tests.client.conftest import Service, answer_tensors, save_photo
from tests.conftest import wait_until
from training.data import check, coco_export

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
        ["detect", "a.jpg", "--url", "ftp://127.0.0.1:8001"],
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


@pytest.mark.slow
def test_a_server_away_is_one_sentence_and_fails_fast(nowhere: str, tmp_path: Path) -> None:
    for number in range(20):
        save_photo(tmp_path / f"{number}.jpg")
    done = run(["--url", nowhere, str(tmp_path)])
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"no Triton server answers at {nowhere}: nothing listens there.")


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=180)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_terminal_shows_how_many_failed(service: Service, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").symlink_to("nowhere")
    photos = [str(tmp_path / "bad.jpg"), *[str(photo)] * 30]
    service.answer = lambda *_: time.sleep(0.05) or answer_tensors()  # type: ignore[func-returns-value]
    shown = errors_on_a_terminal(["--url", service.url, "--concurrency", "1", *photos])
    assert "failed=1" in shown


@pytest.mark.slow
def test_an_interrupted_output_can_be_resumed(service: Service, tmp_path: Path) -> None:
    for number in range(50):
        save_photo(tmp_path / f"{number}.jpg")
    journal = tmp_path / "found.csv.journal"
    service.answer = lambda *_: time.sleep(0.1) or answer_tensors()  # type: ignore[func-returns-value]
    command = ["--url", service.url, str(tmp_path), "--output", str(tmp_path / "found.csv")]
    with subprocess.Popen([*COMMAND, *command], stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: lines_in(journal) > 5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert re.fullmatch(rf"Photos done: \d+, kept in {journal}\. The same .* --resume .*\n", err)
    service.answer = lambda *_: answer_tensors()
    assert run([*command, "--resume"]).returncode == 0
    assert not journal.exists()


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
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


@pytest.fixture
def many(smear: Path, tmp_path: Path) -> Path:
    """A folder of 400 photos; a name stands in two folders, and some are none."""
    folder = tmp_path / "photos"
    samples = sorted(smear.parent.glob("*.jpg"))
    for number in range(400):
        photo = folder / f"{number // 200}" / f"{number % 200:03}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(samples[number % len(samples)], photo)
    (folder / "0/007.jpg").write_bytes(b"")
    (folder / "0/100.jpg").write_text("no image")
    (folder / "1/050.jpg").write_bytes(smear.read_bytes()[:2000])
    return folder


def test_a_killed_run_is_resumed_to_the_very_same_output(
    server: EmbeddedServer, many: Path, tmp_path: Path
) -> None:
    command = ["--url", server.grpc_url, str(many), "--output"]
    whole = run([*command, str(tmp_path / "whole.jsonl")])
    output, journal = tmp_path / "found.jsonl", tmp_path / "found.jsonl.journal"
    for least in (20, 100):  # killed twice
        with subprocess.Popen([*COMMAND, *command, str(output), "--resume"]) as process:
            wait_until(lambda least=least: lines_in(journal) > least)  # type: ignore[misc]
            process.kill()
        assert not output.exists()
    refused = run([*command, str(output)])
    assert refused.returncode == 2
    assert "go on with --resume" in refused.stderr
    before = lines_in(journal)
    resumed = run([*command, str(output), "--resume"])
    assert (whole.returncode, resumed.returncode) == (1, 1)
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    entries = [json.loads(line) for line in output.read_text().splitlines()]
    assert [entry["file"] for entry in entries] == list(map(str, sorted(many.rglob("*.jpg"))))
    assert sum("error" in entry for entry in entries) == 3
    # What had a result was not asked for again: a line each for the rest and for what failed.
    assert before < 401 <= lines_in(journal) <= 401 + 2 * 3


def test_what_was_found_trains_and_is_measured(
    server: EmbeddedServer, smear: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pseudo labels as VOC, from there as COCO's truth, and the detections measured with it."""
    command = ["--url", server.grpc_url]
    voc, truth, results = (tmp_path / name for name in ("voc", "truth.json", "results.json"))
    made = run([*command, str(smear.parent), "--output", str(voc), "--format", "voc"])
    assert made.returncode == 0
    assert check.check_folders(check.CheckSettings((voc,), val=0)) == 0
    settings = coco_export.CocoSettings((voc,), truth, split="train", val=0)
    assert coco_export.write_coco(settings) == 0
    photos = str(voc / "JPEGImages")
    found = run([*command, photos, "--output", str(results), "--coco-ids", str(truth)])
    assert found.returncode == 0
    known = COCO(str(truth))
    evaluator = COCOeval(known, known.loadRes(str(results)), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    assert evaluator.eval["precision"][0, :, :, 0, -1].min() == pytest.approx(1)
