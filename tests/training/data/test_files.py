from pathlib import Path

import pytest

from training.data import files


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("instances_train2017", "train"),
        ("Valid", "val"),
        ("my-validation_set", "val"),
        ("test-dev", "test"),
        ("trainval", "trainval"),
        ("trainee", "other"),
        ("train_val", "other"),
        ("", "other"),
    ],
)
def test_split_names(name: str, split: str) -> None:
    assert files.split_name(name, "other") == split


def test_names_that_no_file_can_have() -> None:
    assert not files.is_file(Path("a\0b"))
    assert not files.is_file(Path("a" * 5000))
    assert not files.is_file(Path("\ud800"))
