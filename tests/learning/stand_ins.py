"""Stands in for `python -m training` and `python -m serving`: what they leave, in no time.

calls.txt has a line for each command that came to its end. The environment says what goes wrong:

KILL="train before"   the parent, the loop, is killed before that command's work, or after it
FAIL="publish 3"      that command does nothing and ends with that exit code
AWAY=                 the store does not answer
SLOW="train"          that command takes a minute, and ends with 130 at Ctrl-C

The repository is repository.json: its versions as `serving releases --json` tells them, their log.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path("repository.json")


def main(command: str, arguments: list[str]) -> int:
    """Do a command's work."""
    if command == "releases" and "AWAY" in os.environ:
        print("error: the store is away", file=sys.stderr)
        return 1
    if command == "releases":
        document = json.loads(REPOSITORY.read_text())
        print(json.dumps({"ensemble": document["log" if "--log" in arguments else "rows"]}))
        return 0
    print(f"{command} works", flush=True)
    _kill_if_asked(command, "before")
    name, _, code = os.environ.get("FAIL", "").partition(" ")
    if name == command:
        print(f"error: {command} does not like it", flush=True)
        return int(code)
    if os.environ.get("SLOW") == command:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            return 130
    WORK.get(command, lambda _: None)(arguments)
    _kill_if_asked(command, "after")
    with Path("calls.txt").open("a") as calls:
        calls.write(f"{command}\n")
    return 0


def _kill_if_asked(command: str, when: str) -> None:
    if os.environ.get("KILL") == f"{command} {when}":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)  # until the kernel ends this process, too


def _output(arguments: list[str]) -> Path:
    return Path(arguments[arguments.index("--output") + 1])


def _write_records(arguments: list[str]) -> None:
    folder = _output(arguments)
    folder.mkdir(exist_ok=True)
    photos = sorted(path.read_text() for path in Path(arguments[0]).glob("*/*"))
    fingerprint = hashlib.sha256("".join(photos).encode()).hexdigest()
    (folder / "train.json").write_text(json.dumps({"count": 3, "fingerprint": fingerprint}))


def _write_coco(arguments: list[str]) -> None:
    with _output(arguments).open("x") as file:  # must not exist yet
        file.write("{}")


def _train(arguments: list[str]) -> None:
    run = _output(arguments)
    run.mkdir(exist_ok=True)
    start = Path(arguments[arguments.index("--pretrained") + 1])
    description = json.loads((start / "run.json").read_text())
    description |= json.loads(Path(arguments[0], "train.json").read_text())
    (run / "run.json").write_text(json.dumps(description))


def _export(arguments: list[str]) -> None:
    _output(arguments).mkdir()  # must not exist yet
    fingerprint = json.loads(Path(arguments[0], "run.json").read_text())["fingerprint"]
    (_output(arguments) / "model.onnx").write_text(fingerprint)


def _publish(arguments: list[str]) -> None:
    _change(json.loads(REPOSITORY.read_text()), "live", arguments)


def _start_canary(arguments: list[str]) -> None:
    _change(json.loads(REPOSITORY.read_text()), "canary", arguments)


def _judge(_: list[str]) -> None:
    document = json.loads(REPOSITORY.read_text())
    assert document["rows"][0]["state"] == "canary"
    for row in document["rows"]:
        row["state"] = "live" if row["state"] == "canary" else ""
    _note(document, len(document["rows"]), None, "judge: as good")


def _change(document: dict[str, Any], state: str, arguments: list[str]) -> None:
    content = Path(arguments[0], "model.onnx").read_text()
    facts = {
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
        "data_fingerprint": content,
    }
    version = len(document["rows"]) + 1
    if state == "live":
        for row in document["rows"]:
            row["state"] = ""
    document["rows"].insert(0, {"version": version, "state": state, "facts": facts})
    live = version if state == "live" else version - 1
    _note(document, live, version if state == "canary" else None, "")


def _note(document: dict[str, Any], live: int, canary: int | None, why: str) -> None:
    before = document["log"][-1]["after"] if document["log"] else {"live": 1, "canary": None}
    after = {"live": live, "canary": canary}
    document["log"].append({"by": "ann@gpu1", "why": why, "before": before, "after": after})
    REPOSITORY.write_text(json.dumps(document))


WORK = {
    "records": _write_records,
    "coco": _write_coco,
    "train": _train,
    "export": _export,
    "publish": _publish,
    "canary": _start_canary,
    "judge": _judge,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
