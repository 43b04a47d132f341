"""The loop, its steps stood in for: killed before and after each of them, refused, begun anew."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from client.inbox.address import open_storage
from learning.inbox import copy_inbox
from tests.conftest import PROJECT

STAND_INS = Path(__file__).with_name("stand_ins.py")
GATE = ["check", "records", "coco", "train", "export", "publish"]
JUDGED = [*GATE[:-1], "canary", "judge"]
CANARY = ("--url", "127.0.0.1:8001", "--prometheus", "http://127.0.0.1:9090")
OPTIONS = [
    *("run", "--inbox", "inbox", "--test", "test.json", "--start", "first", "--output", "rounds"),
    *("--repository", "repositories/mine", "--new", "2"),
]
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run_in(tmp_path: Path) -> Run:
    """Runs the command in a folder with an inbox and a live version 1; its exit code and output."""
    for room in ("training", "serving"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").touch()
        (tmp_path / room / "__main__.py").write_text(
            f"import runpy\nrunpy.run_path({str(STAND_INS)!r}, run_name='__main__')\n"
        )
    add_photos(tmp_path, "a", "b")
    (tmp_path / "first").mkdir()
    description = {"fingerprint": "of version 1", "labels": ["RBC"], "settings": {"resize": None}}
    description |= {"preset": {"name": "ssd_compact"}}
    (tmp_path / "first" / "run.json").write_text(json.dumps(description))
    (tmp_path / "test.json").touch()
    first = {"version": 1, "state": "live", "facts": {"data_fingerprint": "of version 1"}}
    (tmp_path / "repository.json").write_text(json.dumps({"rows": [first], "log": []}))

    def run_once(*options: str, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "learning", *OPTIONS, *options],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(PROJECT)} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run_once


def add_photos(folder: Path, *names: str) -> None:
    for part, suffix in (("Annotations", "xml"), ("JPEGImages", "jpg")):
        (folder / "inbox" / part).mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / "inbox" / part / f"{name}.{suffix}").write_text(name)


def calls(folder: Path) -> list[str]:
    """The commands that came to their end."""
    return (folder / "calls.txt").read_text().split()


def versions(folder: Path) -> list[tuple[int, str]]:
    rows = json.loads((folder / "repository.json").read_text())["rows"]
    return [(row["version"], row["state"]) for row in rows]


@pytest.mark.slow
def test_killed_in_and_after_each_step_it_goes_on(run_in: Run, tmp_path: Path) -> None:
    *before, export, publish = (f"{step} after" for step in GATE)
    for killed in (*before, "export before", export, publish):
        code, text = run_in(KILL=killed)
        assert code == -signal.SIGKILL, text
        assert not (tmp_path / "rounds" / "0001" / "outcome.json").exists()
    code, text = run_in(AWAY="")
    assert code == 1, text
    assert text.endswith("--model ensemble: the store is away\n")
    code, text = run_in()
    assert code == 0, text
    assert text.count("done before") == len(GATE) - 1
    assert "Round 0001 is released: version 2 is live.\nreport: rounds/index.html" in text
    assert versions(tmp_path) == [(2, "live"), (1, "")]  # published once
    assert calls(tmp_path) == GATE[:-1]  # each came to its end once
    assert run_in() == (0, "nothing new in the inbox since round 0001\n")
    assert (tmp_path / "rounds" / "index.html").read_text().count(" done in ") == len(GATE)


@pytest.mark.slow
def test_a_killed_release_is_judged_once(run_in: Run, tmp_path: Path) -> None:
    for killed in ("canary after", "judge before", "judge after"):
        assert run_in(*CANARY, KILL=killed)[0] == -signal.SIGKILL
    code, text = run_in(*CANARY)
    assert code == 0, text
    assert versions(tmp_path) == [(2, "live"), (1, "")]
    assert calls(tmp_path) == GATE[:-1]


@pytest.mark.slow
def test_what_is_refused_ends_the_round_and_leaves_the_live_version(
    run_in: Run, tmp_path: Path
) -> None:
    code, text = run_in(FAIL="check 1")
    assert code == 3
    told = "Round 0001 is refused by check: check does not like it. Version 1 stays live."
    assert told in text
    assert run_in() == (0, "nothing new in the inbox since round 0001\n")
    add_photos(tmp_path, "c")
    code, text = run_in("--data", "voc", FAIL="vet 3")
    assert code == 3
    assert "Round 0002 is refused by vet: vet does not like it. Version 1 stays live." in text
    add_photos(tmp_path, "d")
    code, text = run_in(FAIL="publish 3")
    assert code == 3
    assert "Round 0003 is refused by publish: publish does not like it. Version 1 stays" in text
    assert versions(tmp_path) == [(1, "live")]
    assert run_in() == (0, "nothing new in the inbox since round 0003\n")
    page = (tmp_path / "rounds" / "index.html").read_text()
    assert page.index("Round 0003 is refused by publish") < page.index(told)


@pytest.mark.slow
def test_an_inbox_in_a_bucket_is_the_same_as_a_folder(run_in: Run, tmp_path: Path, s3: str) -> None:
    bucket = open_storage(s3)
    for path in (tmp_path / "inbox").glob("*/*"):
        bucket.place(PurePosixPath(path.relative_to(tmp_path / "inbox")), path.read_bytes())
    code, text = run_in("--inbox", s3)
    assert code == 0, text
    assert "Round 0001 is released: version 2 is live." in text
    photos = json.loads((tmp_path / "rounds/0001/begun.json").read_text())["photos"]
    assert photos == copy_inbox(tmp_path / "inbox", tmp_path / "copy")
    assert run_in() == (0, "nothing new in the inbox since round 0001\n")  # of the folder
    bucket.place(PurePosixPath("Annotations/a.xml"), b"corrected again")
    code, text = run_in("--inbox", s3)
    assert text == "new or changed photos: 1; a round begins with 2 (--new)\n"
    copied = tmp_path / "rounds/.inbox/Annotations/a.xml"
    assert (code, copied.read_text()) == (0, "corrected again")
    nowhere = s3.rsplit("/", 1)[0].replace("bucket-", "nobody-")
    code, text = run_in("--inbox", nowhere)
    assert code == 1
    assert text.startswith("error: client fetch ")
    assert "has no bucket nobody-" in text


@pytest.mark.slow
def test_what_was_refused_is_tried_again_with_other_settings(run_in: Run, tmp_path: Path) -> None:
    code, text = run_in("--data", "voc", FAIL="vet 3")
    assert code == 3
    assert "Look at rounds/0001/pictures: if those boxes are right, it is the live" in text
    told = (0, "nothing new in the inbox since round 0001\n")
    assert run_in("--data", "voc") == told
    code, text = run_in("--data", "voc", "--more", "0.5")
    assert code == 0, text
    assert "Round 0002 is released: version 2 is live." in text


@pytest.mark.slow
def test_the_next_round_starts_from_the_run_behind_the_live_version(
    run_in: Run, tmp_path: Path
) -> None:
    assert run_in("--data", "voc", FAIL="vet 4")[0] == 0  # too few to tell
    add_photos(tmp_path, "c")
    told = "new or changed photos: 1; a round begins with 2 (--new)\n"
    assert run_in() == (0, told)
    (tmp_path / "inbox" / "Annotations" / "a.xml").write_text("corrected again")
    code, text = run_in("--data", "voc")
    assert code == 0, text
    assert "Train: from rounds/0001/run, the run behind live version 2" in text
    arrived = (tmp_path / "rounds/0002/arrived/JPEGImages").iterdir()
    assert {path.name for path in arrived} == {"a.jpg", "c.jpg"}
    assert "--copies 0.60" in (tmp_path / "rounds/0002/steps/vet.log").read_text()  # a is known
    assert versions(tmp_path) == [(3, "live"), (2, ""), (1, "")]
    assert (tmp_path / "rounds/0001/inbox/Annotations/a.xml").read_text() == "a"


@pytest.mark.slow
def test_a_failure_is_no_refusal(run_in: Run, tmp_path: Path) -> None:
    code, text = run_in(FAIL="records 1")
    assert code == 1
    assert text.endswith(
        "error: records failed with exit code 1: records does not like it. Its output is "
        "rounds/0001/steps/records.log; the same command goes on with this step\n"
    )
    code, text = run_in("--precision", "float32")
    assert code == 1
    assert "begun with other settings: --precision (was 'int8', now 'float32')" in text
    code, text = run_in(*CANARY, FAIL="judge 4")
    assert code == 4
    assert "judge does not like it. The canary stays: give the same command again" in text
    assert run_in(*CANARY)[0] == 0
    assert versions(tmp_path) == [(2, "live"), (1, "")]


@pytest.mark.slow
def test_a_training_stops_at_its_hours_and_goes_on_with_the_next_command(
    run_in: Run, tmp_path: Path
) -> None:
    code, text = run_in("--hours", "0.0005", SLOW="train")
    assert code == 4
    assert "train has taken its 0.0005 hours (--hours): the same command goes on" in text
    assert calls(tmp_path)[-1] == "coco"
    code, text = run_in("--hours", "1")
    assert code == 0, text
    assert versions(tmp_path) == [(2, "live"), (1, "")]


@pytest.mark.slow
def test_only_so_many_rounds_begin_in_a_week(run_in: Run, tmp_path: Path) -> None:
    assert run_in(FAIL="check 1")[0] == 3
    add_photos(tmp_path, "c")
    told = "rounds begun in the last seven days: 1; the next one waits (--week)\n"
    assert run_in("--week", "1") == (0, told)
    assert run_in("--week", "2")[0] == 0


def test_what_cannot_begin_is_one_sentence_and_writes_nothing(run_in: Run, tmp_path: Path) -> None:
    code, text = run_in("--prometheus", "http://127.0.0.1:9090")
    assert (code, text) == (
        1,
        "error: --prometheus watches a canary on servers: name them with --url\n",
    )
    assert run_in("--inbox", "none")[1].startswith("error: --inbox none: expected a Pascal VOC")
    assert run_in("--test", "none.json")[1] == "error: --test: none.json does not exist\n"
    (tmp_path / "first" / "run.json").write_text('{"fingerprint": "another"}')
    code, text = run_in()
    assert "version 1 is live in repositories/mine, and neither first nor a round in" in text
    with (tmp_path / "rounds" / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run_in()[1] == "error: another `learning run` is at work in rounds\n"
    assert list((tmp_path / "rounds").glob("0*")) == []
