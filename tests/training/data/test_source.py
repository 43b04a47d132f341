"""Val held out by ratio, in whole groups."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.data.smears import frames, ids, numbered, records_of, write_voc
from training.data import annotations, problems
from training.data.folder_settings import FolderSettings
from training.data.folders import Folders, Source
from training.data.formats import annotated_folder


def test_list_of_another_name_lists_all_there_is(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"default": numbered(5)})
    folders = Folders(FolderSettings((path,)))
    assert folders.splits() == ["train", "val"]
    assert len(ids(folders, "val")) == 1
    assert "of the 5 images of default" in folders.notes()[0]


def test_val_is_held_out_where_none_is_named(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": numbered(10)})
    folders = Folders(FolderSettings((path,), val=0.3))
    assert folders.splits() == ["train", "val"]
    assert len(ids(folders, "val")) == 3
    assert sorted(ids(folders, "train") + ids(folders, "val")) == sorted(numbered(10))
    assert folders.notes() == [
        f"{path}: Pascal VOC, train, val; val is 3 of the 10 images of train, "
        "held out by ratio (--val 0.3 --seed 0)"
    ]


def test_held_out_images_depend_on_seed_and_ids_alone(tmp_path: Path) -> None:
    """Not on the order of files, nor on other folders; more images move few."""
    a = write_voc(tmp_path / "a", {"train": numbered(20)})
    b = write_voc(tmp_path / "b", {"train": numbered(20)[::-1]})
    other = write_voc(tmp_path / "other", {"train": [f"x{n}" for n in range(9)]})
    more = write_voc(tmp_path / "more", {"train": numbered(22)})
    held_out = set(ids(Folders(FolderSettings((a,))), "val"))
    assert len(held_out) == 4
    assert set(ids(Folders(FolderSettings((b,))), "val")) == held_out
    assert held_out < set(
        ids(
            Folders(
                FolderSettings(
                    (
                        other,
                        a,
                    )
                )
            ),
            "val",
        )
    )
    assert len(held_out - set(ids(Folders(FolderSettings((more,))), "val"))) <= 2
    assert set(ids(Folders(FolderSettings((a,), seed=1)), "val")) != held_out


def test_folder_without_image_sets_is_split_by_ratio(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": numbered(5)})
    shutil.rmtree(path / "ImageSets")
    folders = Folders(FolderSettings((path,)))
    assert folders.splits() == ["train", "val"]
    assert (len(ids(folders, "train")), len(ids(folders, "val"))) == (4, 1)


def test_one_image_is_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A first corrected photo is a folder, too; `records` would refuse an empty val."""
    path = write_voc(tmp_path / "voc", {"train": ["1"]})
    assert Folders(FolderSettings((path,))).splits() == ["train"]
    assert records_of([path], tmp_path / "records", labels=(), splits=()).count == 1
    assert "val is none of the 1 image" in capsys.readouterr().out


def test_named_val_is_respected_unless_asked_otherwise(tmp_path: Path) -> None:
    splits = {"train": numbered(9), "val": ["last"], "test": ["far"]}
    path = write_voc(tmp_path / "voc", splits)
    assert ids(Folders(FolderSettings((path,), val=0.5)), "val") == ["last"]
    assert "held out" not in Folders(FolderSettings((path,), val=0.5)).notes()[0]
    anew = Folders(FolderSettings((path,), val=0.5, resplit=True))
    assert len(ids(anew, "val")) == 5
    assert sorted(ids(anew, "train") + ids(anew, "val")) == sorted([*numbered(9), "last"])
    assert ids(anew, "test") == ["far"]


@pytest.mark.parametrize(("val", "splits"), [(0.0, ["train"]), (1.0, ["val"])])
def test_all_or_nothing(tmp_path: Path, val: float, splits: list[str]) -> None:
    path = write_voc(tmp_path / "voc", {"train": numbered(3)})
    folders = Folders(FolderSettings((path,), val=val))
    assert folders.splits() == splits
    assert len(ids(folders, splits[0])) == 3


@pytest.mark.parametrize("val", [-0.1, 1.1, float("nan")])
def test_share_is_checked(tmp_path: Path, val: float) -> None:
    with pytest.raises(problems.DataError, match="--val: expected a share of 0 to 1"):
        Folders(FolderSettings((tmp_path,), val=val))


class Listed(annotated_folder.AnnotatedFolder):
    """A folder of entries alone."""

    format = "listed"

    def __init__(self, names: list[str]) -> None:
        super().__init__(Path("listed"))
        self._names = names

    def splits(self) -> list[str]:
        return ["train"]

    def entries(self, split: str) -> Any:
        entries = [annotations.Entry(name, "a", Path("listed") / name) for name in self._names]
        return entries, []

    def content(self, entry: Any, info: Any) -> annotations.Content:
        raise NotImplementedError


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text("abcdef", min_size=1, max_size=4), unique=True, min_size=1, max_size=30),
    st.floats(0.01, 0.99),
    st.randoms(),
)
def test_ratio_is_exact_and_order_does_not_count(names: Any, val: float, random: Any) -> None:
    source = listed_source(Listed(names), val=val)
    train, held_out = ({e.image_id for e in source.entries(s)[0]} for s in ("train", "val"))
    assert train | held_out == set(names)
    assert not train & held_out
    least, most = (1, len(names) - 1) if len(names) > 1 else (0, 0)
    assert len(held_out) == min(max(round(val * len(names)), least), most)
    shuffled = random.sample(names, len(names))
    again = listed_source(Listed(shuffled), val=val).entries("val")[0]
    assert {entry.image_id for entry in again} == held_out


def listed_source(folder: "Listed", **changes: Any) -> Source:
    return Source("a", folder, FolderSettings((folder.directory,), **changes))


def clips_of(source: Source, split: str) -> set[str]:
    return {entry.image_id.partition("_")[0] for entry in source.entries(split)[0]}


@pytest.mark.parametrize("pattern", [r"clip\d+", r"(.+)_.", r"^clip(\d+)_"])
def test_frames_of_one_clip_are_held_out_together(pattern: str) -> None:
    listed = Listed(frames(10, 4))
    alone = listed_source(listed, val=0.2)
    assert clips_of(alone, "train") & clips_of(alone, "val")
    source = listed_source(listed, val=0.2, group_by=pattern)
    train, val = clips_of(source, "train"), clips_of(source, "val")
    assert not train & val
    assert (len(train), len(val)) == (8, 2)
    assert source.note().endswith("(--val 0.2 --seed 0), 2 of the 10 groups")
    sources = [listed_source(listed, val=0.2, seed=seed, group_by=pattern) for seed in range(9)]
    assert len({frozenset(clips_of(each, "val")) for each in sources}) > 1


def test_a_group_may_be_a_folder_or_none() -> None:
    source = listed_source(Listed([]), val=0.3, group_by=r"patient(\d+)")
    paths = ["patient7/1.png", "patient7/patient8-1.png", "1.png"]
    entries = [annotations.Entry(Path(p).stem, "a.xml", Path("listed") / p) for p in paths]
    assert list(map(source.group, entries)) == ["7", "8", None]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), st.floats(0.01, 0.99))
def test_whole_groups_come_near_the_ratio(sizes: list[int], val: float) -> None:
    names = [f"g{group}_{n}" for group, size in enumerate(sizes) for n in range(size)]
    source = listed_source(Listed(names), val=val, group_by=r"g\d+")
    train, held_out = ([e.image_id for e in source.entries(s)[0]] for s in ("train", "val"))
    assert sorted(train + held_out) == sorted(names)
    assert train
    assert held_out
    assert not {name.partition("_")[0] for name in train} & {
        name.partition("_")[0] for name in held_out
    }
    assert abs(len(held_out) - val * len(names)) <= max(sizes)


def test_one_group_cannot_be_divided(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": frames(1, 4)})
    with pytest.raises(problems.DataError, match="finds the same in all 4 images"):
        ids(Folders(FolderSettings((path,), group_by="clip")), "val")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "is no regular expression: missing"), ("patient", "no image's name or path has")],
)
def test_patterns_are_checked(tmp_path: Path, pattern: str, message: str) -> None:
    path = write_voc(tmp_path / "voc", {"train": frames(2, 2)})
    with pytest.raises(problems.DataError, match=message):
        Folders(FolderSettings((path,), group_by=pattern)).notes()
