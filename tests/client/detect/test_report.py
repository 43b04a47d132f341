import json
from pathlib import Path

from client import Detection, InvalidImage, Result
from client.detect import report

EMPTY = Result((), width=64, height=48)


def test_a_table_of_nothing_is_silent() -> None:
    lines: list[str] = []
    report.Table([], lines.append).close()
    assert lines == []


def test_a_photo_without_detections_has_its_line() -> None:
    lines: list[str] = []
    table = report.Table([Path("a.jpg")], lines.append)
    table.found(Path("a.jpg"), EMPTY)
    table.close()
    assert lines[1:] == ["a.jpg  (nothing found)", "\n1 photo: 0 detections"]


def test_a_table_has_a_line_per_detection_and_the_counts(cell: Detection) -> None:
    lines: list[str] = []
    names = [Path("a.jpg"), Path("folder/longer.jpg")]
    table = report.Table(names, lines.append)
    white = Detection("WBC", 1, 0.5, cell.box)
    table.found(names[0], Result((cell, white), 640, 480))
    table.found(names[1], Result((cell,), 640, 480))
    table.close()
    assert lines == [
        "file               label         score      x1      y1      x2      y2",
        "a.jpg              RBC            0.75    10.5    20.0   110.5   120.2",
        "a.jpg              WBC            0.50    10.5    20.0   110.5   120.2",
        "folder/longer.jpg  RBC            0.75    10.5    20.0   110.5   120.2",
        "\n2 photos: 3 detections (2 RBC, 1 WBC)",
    ]


def test_json_of_nothing_is_an_empty_list() -> None:
    lines: list[str] = []
    report.Json(lines.append).close()
    assert lines == ["[]"]


def test_json_is_one_document_with_an_object_per_photo(cell: Detection) -> None:
    lines: list[str] = []
    document = report.Json(lines.append)
    result = Result((cell,), 640, 480)
    document.found(Path("a.jpg"), result)
    document.failed(Path("b.jpg"), InvalidImage("b.jpg: no such file"))
    document.close()
    entries = [
        {"file": "a.jpg", **result.to_dict()},
        {"file": "b.jpg", "error": "b.jpg: no such file"},
    ]
    assert "\n".join(lines) == json.dumps(entries, indent=2)


def test_json_is_written_as_it_comes() -> None:
    lines: list[str] = []
    document = report.Json(lines.append)
    for number in range(100):
        document.found(Path(f"{number}.jpg"), EMPTY)
        assert len(lines) == number + 1
