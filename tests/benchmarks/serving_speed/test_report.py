"""Tables and files of a result."""

import json
from pathlib import Path
from typing import Any

from benchmarks.serving_speed import report


def test_an_empty_result_is_written(tmp_path: Path) -> None:
    machine = {"processor": "P", "cores": 2.0, "flags": [], "python": "3", "packages": {}}
    result: dict[str, Any] = {
        "machine": machine | {"commit": "c", "time": "t"},
        "photos": 4,
        "contestants": [],
        "head_to_head": [],
        "open_loop": [],
        "perf_analyzer": [],
        "failed": {"contestants Ray Serve": "no port\nand more"},
    }
    report.write_report(tmp_path, result)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert "failed: contestants Ray Serve: no port" in (tmp_path / "tables.md").read_text()
