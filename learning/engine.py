"""Takes the steps of a round, under doit.

doit keeps the order, skips what is done and stops at what fails. It writes down what is done at its
own end only, so a kill would make it forget: each step's own file, written the moment it is done,
is what it goes by here.
"""

import re
import shutil
import time
from pathlib import Path
from typing import Any

from doit.api import run_tasks
from doit.cmd_base import ModuleTaskLoader
from doit.exceptions import TaskFailed
from doit.reporter import ZeroReporter

from learning.commands import PROMPT, run_command
from learning.files import tell_time, write_json
from learning.steps import Step

REASON = re.compile("^(error|refused): | is rolled back: ")
CONFIG = {"backend": "sqlite3", "dep_file": ":memory:", "verbosity": 2}


class Reporter(ZeroReporter):
    """Says of each step what it is for, or that it was done before."""

    def execute_task(self, task: Any) -> None:
        self.write(f"\n{task.doc}\n")

    def skip_uptodate(self, task: Any) -> None:
        self.write(f"\n{task.doc}\ndone before\n")


class Stopped(Exception):  # noqa: N818 (a refusal is no error)
    """A step ended otherwise than well."""

    def __init__(self, step: Step, code: int, log: Path) -> None:
        super().__init__(_find_reason(log))
        self.step, self.code, self.log = step, code, log


def take_steps(steps: list[Step], folder: Path) -> None:
    """Take every step that is not done yet; each notes in the folder that it is done.

    Raises:
        Stopped: one ended otherwise than well; what was done before stays.
        LearningError: the repository does not tell whether one was done.
    """
    folder.mkdir(exist_ok=True)
    stopped: list[Exception] = []
    tasks: dict[str, Any] = {}
    for number, step in enumerate(steps):
        tasks[f"task_{step.name}"] = lambda step=step, number=number: {
            "actions": [(_attempt, [step, folder, stopped])],
            "targets": [str(folder / f"{step.name}.json")],
            "uptodate": [True],
            "task_dep": [each.name for each in steps[max(0, number - 1) : number]],
            "doc": f"{number + 1} of {len(steps)}. {step.purpose}",
        }
    config = {"DOIT_CONFIG": {**CONFIG, "reporter": Reporter}}
    run_tasks(ModuleTaskLoader(tasks | config), {step.name: {} for step in steps})
    if stopped:
        raise stopped[0]


def _attempt(step: Step, folder: Path, stopped: list[Exception]) -> TaskFailed | None:
    """Take a step as doit wants it, which keeps exceptions to itself."""
    try:
        _take(step, folder)
    except Exception as error:
        stopped.append(error)
        return TaskFailed(str(error), report=False)
    return None


def _take(step: Step, folder: Path) -> None:
    log, began = folder / f"{step.name}.log", time.monotonic()
    if not (log.exists() and step.was_done()):
        if step.made and step.made.is_dir():
            shutil.rmtree(step.made)
        elif step.made:
            step.made.unlink(missing_ok=True)
        if (code := run_command(step.command, log, step.hours)) not in step.passes:
            raise Stopped(step, code, log)
    seconds = round(time.monotonic() - began, 1)
    attempts = log.read_text(encoding="utf-8").count(PROMPT)
    document = {"at": tell_time(), "seconds": seconds, "attempts": attempts}
    write_json(folder / f"{step.name}.json", document | {"command": list(step.command)})


def _find_reason(log: Path) -> str:
    """Why a command ended as it did: what it called an error or a refusal, else its last line."""
    _, _, attempt = log.read_text(encoding="utf-8").rpartition(PROMPT)
    lines = [line.strip() for line in attempt.splitlines() if line.strip()]
    told = [line for line in lines if REASON.search(line)] or lines
    return re.sub("^(error|refused): ", "", told[-1])
