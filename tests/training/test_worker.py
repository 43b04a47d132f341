"""The start of a worker, and the commands that manifests and pages tell."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys

import pytest
import tyro
import yaml

from tests.conftest import PROJECT
from training.__main__ import COMMANDS
from training.worker import make_config

ADDRESS = "train-{index}.train:2222"


def start_worker(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training.worker", *words],
        env={k: v for k, v in os.environ.items() if k != "TF_CONFIG"} | variables,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_is_told_who_it_is_and_who_else_there_is() -> None:
    words = ("--workers", "2", "--address", "127.0.0.1:222{index}", "--")
    done = start_worker(*words, "printenv", "TF_CONFIG", JOB_COMPLETION_INDEX="1")
    assert json.loads(done.stdout) == {
        "cluster": {"worker": ["127.0.0.1:2220", "127.0.0.1:2221"]},
        "task": {"type": "worker", "index": 1},
    }
    done = start_worker(*words, "sh", "-c", "exit 7", JOB_COMPLETION_INDEX="0")
    assert done.returncode == 7


@pytest.mark.parametrize(
    ("workers", "address", "index", "told"),
    [
        (2, ADDRESS, "", "JOB_COMPLETION_INDEX in the environment must be 0 to 1, got ''"),
        (2, ADDRESS, "2", "must be 0 to 1, got '2'"),
        (2, ADDRESS, "-1", "must be 0 to 1, got '-1'"),
        (0, ADDRESS, "0", "--workers is 0"),
        (2, "train:2222", "0", "must tell one worker's address from another's"),
        (2, "train-{index}", "0", "--address must be HOST:PORT"),
        (2, "train-{index}:http", "0", "--address must be HOST:PORT"),
        (2, "train-{index}:65536", "0", "--address must be HOST:PORT"),
    ],
)
def test_what_makes_no_cluster_is_told(workers: int, address: str, index: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        make_config(workers, address, index)


@pytest.mark.parametrize(
    ("address", "command", "code", "told"),
    [
        (
            "nobody-{index}.invalid:1",
            "true",
            75,
            "no address is known of nobody-0.invalid after 0 s",
        ),
        ("{index}", "true", 2, "--address must be HOST:PORT with {index} in it, got '{index}'"),
        ("127.0.0.1:1{index}", "no-such-program", 2, "no-such-program cannot be run: No such file"),
    ],
)
def test_what_cannot_be_started_is_told(address: str, command: str, code: int, told: str) -> None:
    words = ("--workers", "1", "--seconds", "0", "--address", address, "--", command)
    done = start_worker(*words, JOB_COMPLETION_INDEX="0")
    assert done.returncode == code
    assert done.stderr.startswith(f"error: {told}")
    assert len(done.stderr.splitlines()) == 1


def test_commands_that_are_told_are_right() -> None:
    page = (PROJECT / "docs" / "training-cluster.md").read_text()
    told = [shlex.split(line) for line in re.findall(r"-- (python -m training .*)", page)]
    manifest = (PROJECT / "deploy" / "training" / "job.yaml").read_text()
    job = next(yaml.safe_load_all(manifest))
    told.append(job["spec"]["template"]["spec"]["containers"][0]["args"])
    assert [words[3] for words in told] == ["records", "export", "train"]
    for _, _, _, name, *words in told:
        command = COMMANDS[name]
        module = importlib.import_module(f"training.{command.module}")
        assert tyro.cli(getattr(module, command.settings), args=words)
