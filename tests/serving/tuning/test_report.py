"""What was measured, in a table."""

from serving.tuning.candidates import AS_IS
from serving.tuning.report import format_table
from tests.serving.tuning.test_choice import ONE, result


def test_table() -> None:
    lines = format_table(
        [[result(AS_IS, 100), result(ONE, 200, trouble="does not load")]], 0
    ).splitlines()
    assert lines[0].split()[:5] == ["instances", "threads", "preprocess", "batches", "at"]
    assert lines[1].endswith("200  as it is, best of these")
    assert lines[2].endswith("does not load")
