"""Lines for people are lines of JSON for programs, and lose nothing on their way."""

import json
from datetime import UTC, datetime

import pytest

from serving.lines import Line, error, warning, write_line


def test_a_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_line("ready")
    write_line("ready", "json")
    text, told = capsys.readouterr().out.splitlines()
    assert text == "ready"
    known = json.loads(told)
    age = datetime.now(UTC) - datetime.fromisoformat(known.pop("time"))
    assert 0 <= age.total_seconds() < 60
    assert known == {"level": "info", "message": "ready", "version": {}, "trace": ""}


def test_a_line_is_text_everywhere_else() -> None:
    assert warning("late") == "late"
    assert f"server 1: {error('away')}" == "server 1: away"


def test_facts_are_kept_and_added() -> None:
    line = Line(Line(warning("late"), trace="12"), version={"ensemble": 2})
    facts = line.facts | {"message": str(line)}
    shown = json.loads(Line(f"server 1: {line}", **facts).to_json())
    del shown["time"]
    assert shown == {
        "level": "warning",
        "message": "late",
        "version": {"ensemble": 2},
        "trace": "12",
    }


def test_one_line_whatever_stands_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    write_line(error('no model "größe":\n\tnone'), "json")
    (told,) = capsys.readouterr().out.splitlines()
    assert json.loads(told)["message"] == 'no model "größe":\n\tnone'
