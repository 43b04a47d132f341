import csv
import json
from pathlib import Path

from client.detect.formats.rows import COLUMNS, write_csv, write_jsonl
from client.detect.journal import Entry
from tests.client.detect.formats.conftest import FOUND, entry


def test_nothing_is_an_empty_file_or_a_header(tmp_path: Path) -> None:
    write_jsonl([], tmp_path / "found.jsonl")
    write_csv([], tmp_path / "found.csv")
    assert (tmp_path / "found.jsonl").read_text() == ""
    assert (tmp_path / "found.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_json_lines_hold_every_photo(entries: list[Entry], tmp_path: Path) -> None:
    write_jsonl(entries, tmp_path / "found.jsonl")
    lines = (tmp_path / "found.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == entries


def test_a_csv_has_a_row_per_detection(entries: list[Entry], tmp_path: Path) -> None:
    write_csv(entries, tmp_path / "found.csv")
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    files = [entries[0]["file"], entries[0]["file"], entries[1]["file"]]
    assert [row["file"] for row in rows] == files
    assert [row["label"] for row in rows] == ["RBC", "Platelets", "RBC"]
    numbers = [float(rows[0][column]) for column in COLUMNS if column not in ("file", "label")]
    assert numbers == [64, 48, 0, 0.75, 10.25, 5.5, 30.5, 40.0]


def test_names_of_any_bytes_and_signs_come_back(tmp_path: Path) -> None:
    name = 'caf\udce9, "quoted"\n.jpg'
    write_csv([entry(Path(name), FOUND[0])], tmp_path / "found.csv")
    write_jsonl([entry(Path(name))], tmp_path / "found.jsonl")
    with (tmp_path / "found.csv").open(newline="", errors="surrogateescape") as file:
        assert [row["file"] for row in csv.DictReader(file)] == [name]
    assert json.loads((tmp_path / "found.jsonl").read_text())["file"] == name
