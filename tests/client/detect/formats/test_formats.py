from pathlib import Path

import pytest

from client import InvalidParameter
from client.detect.formats import guess_format


@pytest.mark.parametrize(
    ("path", "form"),
    [("found.jsonl", "jsonl"), ("found.json", "coco"), ("a.b/found.CSV", "csv")],
)
def test_a_suffix_names_a_format(path: str, form: str) -> None:
    assert guess_format(Path(path)) == form


@pytest.mark.parametrize("path", ["found", "found.xml", ".csv"])
def test_another_suffix_does_not(path: str) -> None:
    with pytest.raises(InvalidParameter, match="--format; a folder is --format voc or yolo"):
        guess_format(Path(path))
