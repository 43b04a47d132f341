"""The Python of docs/bulk.md runs as it stands there."""

import re
from pathlib import Path

import pytest

from bulk.listing import NAME, Part, write_listing
from bulk.place import open_place
from bulk.task import detect_part
from tests.bulk.conftest import make_task
from tests.conftest import PROJECT

PAGE = PROJECT / "docs" / "bulk.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_what_was_found_is_read_as_the_page_says(
    photos: Path,
    tiny_repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = tmp_path / "found"
    detect_part(make_task(photos, found, tiny_repository), Part(0, ["a.jpg", "more/c.jpg"]))
    detect_part(make_task(photos, found, tiny_repository), Part(1, ["gone.jpg"]))
    open_place(str(found)).create(NAME, write_listing([], {}, 2))
    monkeypatch.chdir(tmp_path)
    said = []
    for program in PROGRAMS:
        exec(compile(program, str(PAGE), "exec"), {})
        said.append(capsys.readouterr().out)
    by_arrow, by_pandas = said
    assert "3 photos, 1 failed" in by_arrow
    assert "a.jpg ['" in by_arrow
    assert "count" in by_pandas
    assert " 2.0 " in by_pandas  # objects of the one label, one in each readable photo
