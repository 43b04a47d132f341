"""Several folders as one: formats told apart, splits by ratio, names, twins and leakage."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data import annotations, records, voc
from training.data.folders import Folders, Source, open_folder
from training.render import smears

LABELS = ("RBC", "WBC", "Platelets")
FORMATS = ("voc", "coco", "yolo")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smears as VOC, 5 in train and 1 in val, and beside it the same as COCO and as YOLO."""
    path = tmp_path_factory.mktemp("rendered")
    assert (
        smears.render_smears(smears.RenderSettings(path / "voc", count=6, width=160, height=120))
        == 0
    )
    for split in ("train", "val"):
        found = voc.Folder(path / "voc").read(split, LABELS).annotations
        write_coco(path / "coco", split, found)
        write_yolo(path / "yolo", split, found)
    return path


def write_coco(path: Path, split: str, found: Any) -> None:
    """As COCO lays it out, with ids that are not places."""
    images = [
        {"id": 7 * n, "file_name": a.image_path.name, "width": a.width, "height": a.height}
        for n, a in enumerate(found, 1)
    ]
    objects = [
        {"image_id": 7 * n, "category_id": 10 * LABELS.index(label), "bbox": [x, y, v - x, w - y]}
        for n, a in enumerate(found, 1)
        for label, (x, y, v, w) in zip(a.labels, a.boxes_xyxy.tolist(), strict=True)
    ]
    categories = [{"id": 10 * n, "name": label} for n, label in enumerate(LABELS)]
    content = {"images": images, "annotations": objects, "categories": categories}
    for part in ("annotations", f"{split}2017"):
        (path / part).mkdir(parents=True, exist_ok=True)
    (path / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
    for a in found:
        shutil.copy(a.image_path, path / f"{split}2017")


def write_yolo(path: Path, split: str, found: Any) -> None:
    """As Roboflow lays it out."""
    folder = path / {"val": "valid"}.get(split, split)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    (path / "data.yaml").write_text(f"train: ../train/images\nnames: [{', '.join(LABELS)}]\n")
    for a in found:
        shutil.copy(a.image_path, folder / "images")
        low, high = a.boxes_xyxy[:, :2], a.boxes_xyxy[:, 2:]
        rows = np.hstack([(low + high) / 2, high - low]) / [160, 120, 160, 120]
        lines = [
            f"{LABELS.index(label)} {' '.join(f'{value:.6f}' for value in row)}\n"
            for label, row in zip(a.labels, rows, strict=True)
        ]
        (folder / f"labels/{a.image_id}.txt").write_text("".join(lines))


def write_voc(
    path: Path, splits: dict[str, list[str]], names: dict[str, str] | None = None
) -> Path:
    """A small VOC folder; each id is an image of its own grey level, with one box.

    splits: empty for a folder without ImageSets.
    names: the class of each image's box; `cell` where none is given.
    """
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (path / part).mkdir(parents=True)
    for image_id in {image_id for ids in splits.values() for image_id in ids}:
        level = sum(image_id.encode()) % 251
        cv2.imwrite(str(path / f"JPEGImages/{image_id}.png"), np.full((9, 9, 3), level, np.uint8))
        box = "<xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax>"
        name = (names or {}).get(image_id, "cell")
        text = f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
        size = "<size><width>9</width><height>9</height></size>"
        xml = f"<annotation>{size}{text}</annotation>"
        (path / f"Annotations/{image_id}.xml").write_text(xml)
    for split, ids in splits.items():
        text = "".join(f"{image_id}\n" for image_id in ids)
        (path / f"ImageSets/Main/{split}.txt").write_text(text)
    return path


def ids(folders: Folders, split: str) -> list[str]:
    return [annotation.image_id for annotation in folders.read(split).annotations]


def kinds(folders: Folders, split: str) -> list[str]:
    return [problem.kind for problem in folders.read(split).problems]


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_told_apart_and_read_alike(rendered: Path, name: str) -> None:
    folders = Folders([rendered / name])
    for split in ("train", "val"):
        expected = voc.Folder(rendered / "voc").read(split, LABELS)
        found = folders.read(split, LABELS)
        assert found.problems == ()
        theirs = {annotation.image_id: annotation for annotation in expected.annotations}
        assert {annotation.image_id for annotation in found.annotations} == set(theirs)
        for annotation in found.annotations:
            other = theirs[annotation.image_id]
            assert annotation.labels == other.labels
            np.testing.assert_allclose(annotation.boxes_xyxy, other.boxes_xyxy, atol=2e-4)
    assert folders.strays() == []


def write_records(folders: Any, output: Path, **options: Any) -> records.Manifest:
    options = {"labels": LABELS, "splits": ("train",)} | options
    assert records.write_records(records.RecordsSettings(tuple(folders), output, **options)) == 0
    return records.load_manifest(output, "".join(options["splits"][:1]) or "train")


def test_records_are_the_same_whatever_the_format(rendered: Path, tmp_path: Path) -> None:
    """To the last bit from COCO; within YOLO's six decimals."""
    made = {name: write_records([rendered / name], tmp_path / name) for name in FORMATS}
    assert made["coco"].fingerprint == made["voc"].fingerprint
    examples = [list(records.dataset(made[name]).as_numpy_iterator()) for name in ("voc", "yolo")]
    for ours, theirs in zip(*examples, strict=True):
        assert ours["image_id"] == theirs["image_id"]
        assert ours["encoded"] == theirs["encoded"]
        assert ours["classes"].tolist() == theirs["classes"].tolist()
        np.testing.assert_allclose(ours["boxes_xyxy"], theirs["boxes_xyxy"], atol=2e-6)


def test_records_of_several_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Held out, renamed, joined; and the leak between the two comes first."""
    a = write_voc(tmp_path / "a", {"train": numbered(4)})
    b = write_voc(tmp_path / "b", {"train": ["1"], "val": ["2"]}, {"1": "disc"})
    copy_image(b / "JPEGImages/2.png", a / "JPEGImages/photo-0.png")
    copy_image(b / "JPEGImages/2.png", a / "JPEGImages/photo-1.png")
    options = {"labels": (), "rename": ("disc=cell",), "val": 0.25, "splits": ("train", "val")}
    manifest = write_records([a, b], tmp_path / "records", **options)
    out = capsys.readouterr().out
    assert "val is 1 of the 4 images of train, held out by ratio (--val 0.25 --seed 0)" in out
    assert "leakage" in out or "duplicate image" in out
    assert "nothing from" not in out
    assert manifest.labels == ("cell",)
    assert write_records([a, b], tmp_path / "again", **options).fingerprint == manifest.fingerprint


def test_folder_that_lacks_a_split_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_voc(tmp_path / "a", {"trainval": ["1", "2"]})
    b = write_voc(tmp_path / "b", {"train": ["3"], "val": ["4"]})
    write_records([a, b], tmp_path / "records", labels=(), splits=("trainval",))
    assert "trainval: nothing from b, without a split of that name" in capsys.readouterr().out


def test_folder_of_no_format(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(annotations.DataError) as caught:
        open_folder(tmp_path)
    lines = str(caught.value).splitlines()
    names = [line.split(":")[0].strip() for line in lines[1:]]
    assert names == ["Pascal VOC", "YOLO", "COCO", "CSV", "TFRecord"]


def test_folder_of_two_formats(rendered: Path, tmp_path: Path) -> None:
    path = shutil.copytree(rendered / "voc", tmp_path / "both")
    shutil.copytree(rendered / "coco", path, dirs_exist_ok=True)
    with pytest.raises(annotations.DataError, match="Pascal VOC and COCO in one folder; move one"):
        open_folder(path)


def test_folders_within(tmp_path: Path) -> None:
    """VOCdevkit from above has a folder a year; an archive often has one folder of everything."""
    for year, image_id in (("VOC2007", "1"), ("VOC2012", "2")):
        write_voc(tmp_path / "zip/VOCdevkit" / year, {"train": [image_id, "3"]})
    years = Folders([tmp_path], val=0)
    assert ids(years, "train") == ["1", "VOC2007-3", "2"]
    write_voc(tmp_path / "other/archive/cells", {"train": ["1"]})
    assert ids(Folders([tmp_path / "other"]), "train") == ["1"]


def test_list_of_another_name_lists_all_there_is(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"default": numbered(5)})
    folders = Folders([path])
    assert folders.splits() == ["train", "val"]
    assert len(ids(folders, "val")) == 1
    assert "of the 5 images of default" in folders.notes()[0]


def test_json_lying_about_does_not_make_it_coco(rendered: Path, tmp_path: Path) -> None:
    path = shutil.copytree(rendered / "voc", tmp_path / "voc")
    (path / "notes.json").write_text("{}")
    assert open_folder(path).format == "Pascal VOC"


def numbered(count: int) -> list[str]:
    return [f"photo-{number}" for number in range(count)]


def test_val_is_held_out_where_none_is_named(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": numbered(10)})
    folders = Folders([path], val=0.3)
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
    held_out = set(ids(Folders([a]), "val"))
    assert len(held_out) == 4
    assert set(ids(Folders([b]), "val")) == held_out
    assert held_out < set(ids(Folders([other, a]), "val"))
    assert len(held_out - set(ids(Folders([more]), "val"))) <= 2
    assert set(ids(Folders([a], seed=1), "val")) != held_out


def test_folder_without_image_sets_is_split_by_ratio(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": numbered(5)})
    shutil.rmtree(path / "ImageSets")
    folders = Folders([path])
    assert folders.splits() == ["train", "val"]
    assert (len(ids(folders, "train")), len(ids(folders, "val"))) == (4, 1)


def test_one_image_is_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A first corrected photo is a folder, too; `records` would refuse an empty val."""
    path = write_voc(tmp_path / "voc", {"train": ["1"]})
    assert Folders([path]).splits() == ["train"]
    assert write_records([path], tmp_path / "records", labels=(), splits=()).count == 1
    assert "val is none of the 1 image" in capsys.readouterr().out


def test_named_val_is_respected_unless_asked_otherwise(tmp_path: Path) -> None:
    splits = {"train": numbered(9), "val": ["last"], "test": ["far"]}
    path = write_voc(tmp_path / "voc", splits)
    assert ids(Folders([path], val=0.5), "val") == ["last"]
    assert "held out" not in Folders([path], val=0.5).notes()[0]
    anew = Folders([path], val=0.5, resplit=True)
    assert len(ids(anew, "val")) == 5
    assert sorted(ids(anew, "train") + ids(anew, "val")) == sorted([*numbered(9), "last"])
    assert ids(anew, "test") == ["far"]


@pytest.mark.parametrize(("val", "splits"), [(0.0, ["train"]), (1.0, ["val"])])
def test_all_or_nothing(tmp_path: Path, val: float, splits: list[str]) -> None:
    path = write_voc(tmp_path / "voc", {"train": numbered(3)})
    folders = Folders([path], val=val)
    assert folders.splits() == splits
    assert len(ids(folders, splits[0])) == 3


@pytest.mark.parametrize("val", [-0.1, 1.1, float("nan")])
def test_share_is_checked(tmp_path: Path, val: float) -> None:
    with pytest.raises(annotations.DataError, match="--val: expected a share of 0 to 1"):
        Folders([tmp_path], val=val)


class Listed(annotations.Folder):
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
    source = Source("a", Listed(names), val, 0, False)
    train, held_out = ({e.image_id for e in source.entries(s)[0]} for s in ("train", "val"))
    assert train | held_out == set(names)
    assert not train & held_out
    least, most = (1, len(names) - 1) if len(names) > 1 else (0, 0)
    assert len(held_out) == min(max(round(val * len(names)), least), most)
    shuffled = random.sample(names, len(names))
    again = Source("a", Listed(shuffled), val, 0, False).entries("val")[0]
    assert {entry.image_id for entry in again} == held_out


def frames(clips: int, each: int) -> list[str]:
    """Ids of so many clips; each gives an image of its own in `write_voc`."""
    return [f"clip{n // each}_{chr(ord('A') + n)}" for n in range(clips * each)]


def clips_of(source: Source, split: str) -> set[str]:
    return {entry.image_id.partition("_")[0] for entry in source.entries(split)[0]}


@pytest.mark.parametrize("pattern", [r"clip\d+", r"(.+)_.", r"^clip(\d+)_"])
def test_frames_of_one_clip_are_held_out_together(pattern: str) -> None:
    listed = Listed(frames(10, 4))
    alone = Source("a", listed, 0.2, 0, False)
    assert clips_of(alone, "train") & clips_of(alone, "val")
    source = Source("a", listed, 0.2, 0, False, re.compile(pattern))
    train, val = clips_of(source, "train"), clips_of(source, "val")
    assert not train & val
    assert (len(train), len(val)) == (8, 2)
    assert source.note().endswith("(--val 0.2 --seed 0), 2 of the 10 groups")
    sources = [Source("a", listed, 0.2, seed, False, re.compile(pattern)) for seed in range(9)]
    assert len({frozenset(clips_of(each, "val")) for each in sources}) > 1


def test_a_group_may_be_a_folder_or_none() -> None:
    source = Source("a", Listed([]), 0.3, 0, False, re.compile(r"patient(\d+)"))
    paths = ["patient7/1.png", "patient7/patient8-1.png", "1.png"]
    entries = [annotations.Entry(Path(p).stem, "a.xml", Path("listed") / p) for p in paths]
    assert list(map(source.group, entries)) == ["7", "8", None]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), st.floats(0.01, 0.99))
def test_whole_groups_come_near_the_ratio(sizes: list[int], val: float) -> None:
    names = [f"g{group}_{n}" for group, size in enumerate(sizes) for n in range(size)]
    source = Source("a", Listed(names), val, 0, False, re.compile(r"g\d+"))
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
    with pytest.raises(annotations.DataError, match="finds the same in all 4 images"):
        ids(Folders([path], group_by="clip"), "val")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "is no regular expression: missing"), ("patient", "no image's name or path has")],
)
def test_patterns_are_checked(tmp_path: Path, pattern: str, message: str) -> None:
    path = write_voc(tmp_path / "voc", {"train": frames(2, 2)})
    with pytest.raises(annotations.DataError, match=message):
        Folders([path], group_by=pattern).notes()


def test_a_list_that_breaks_a_group_is_told(tmp_path: Path) -> None:
    clip = frames(3, 3)
    splits = {"train": clip[:4], "val": clip[4:7], "test": clip[7:]}
    folders = Folders([write_voc(tmp_path / "voc", splits)], group_by=r"clip\d")
    (problem,) = folders.read("train").problems
    assert (problem.kind, problem.fatal_for, problem.is_remark) == (
        "broken group",
        "nothing",
        False,
    )
    assert "of the group 'clip1', as is JPEGImages/clip1_F.png, which is in val" in str(problem)
    assert [p.kind for p in folders.read("val").problems] == ["broken group"]
    assert folders.read("test").problems == ()


def test_what_looks_alike_in_train_and_val_is_told(rendered: Path, tmp_path: Path) -> None:
    """The same photo saved anew under another name; a copy is leakage, and told once."""
    path = Path(shutil.copytree(rendered / "voc", tmp_path / "voc"))
    photo = cv2.imread(str(path / "JPEGImages/smear-1.jpg"))
    cv2.imwrite(str(path / "JPEGImages/smear-6.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 70])
    folders = Folders([path])
    folders.read("train")
    (problem,) = folders.read("val").problems
    assert (problem.kind, problem.is_remark) == ("near-duplicate", True)
    assert "smear-6 looks like smear-1, which is in train: where they are of one" in str(problem)
    copy_image(path / "JPEGImages/smear-1.jpg", path / "JPEGImages/smear-6.jpg")
    folders = Folders([path])
    assert kinds(folders, "train") == ["leakage"]
    assert kinds(folders, "val") == []


def test_folders_are_joined(tmp_path: Path) -> None:
    """Labels united, most frequent first; ids that collide get their folder's name in front."""
    a = write_voc(tmp_path / "a", {"train": ["1", "2"], "val": ["9"]}, {"1": "disc"})
    b = write_voc(tmp_path / "b", {"train": ["1", "3", "4"], "test": ["7"]}, {"1": "cross"})
    (b / "Annotations/3.xml").write_text("<annotation")
    (b / "JPEGImages/1.png").write_bytes((b / "JPEGImages/7.png").read_bytes())
    (b / "JPEGImages/7.png").write_bytes((b / "JPEGImages/3.png").read_bytes())
    folders = Folders([a, b], val=0)
    assert ids(folders, "train") == ["a-1", "2", "b-1", "4"]
    assert folders.labels(("train", "val")) == ("cell", "cross", "disc")
    assert folders.read("train").labels == ("cell", "cross", "disc")
    assert ids(folders, "val") == ["9"]
    assert folders.without("val") == ["b"]
    assert folders.without("train") == []


def test_problems_name_the_folder(tmp_path: Path) -> None:
    a = write_voc(tmp_path / "x/voc", {"train": ["1"], "val": ["2"]})
    b = write_voc(tmp_path / "y/voc", {"train": ["3"], "val": ["4", "4"]})
    (b / "Annotations/3.xml").write_text("<annotation")
    (a / "Annotations/5.xml").write_text("<annotation/>")
    folders = Folders([a, b])
    assert [problem.file for problem in folders.read("train").problems] == [
        "y/voc/Annotations/3.xml"
    ]
    assert [problem.file for problem in folders.read("val").problems] == [
        "y/voc/ImageSets/Main/val.txt"
    ]
    assert [problem.file for problem in folders.strays()] == ["x/voc/Annotations/5.xml"]
    assert [p.file for p in Folders([a]).strays()] == ["Annotations/5.xml"]


def test_images_of_one_name_in_one_folder(rendered: Path, tmp_path: Path) -> None:
    """YOLO and COCO name images by path; an id is a file's name, so it takes the path's parts."""
    path = shutil.copytree(rendered / "yolo", tmp_path / "yolo")
    for part, suffix in (("images", "jpg"), ("labels", "txt")):
        shutil.move(
            path / f"valid/{part}/smear-6.{suffix}", path / f"valid/{part}/smear-1.{suffix}"
        )
    folders = Folders([path])
    assert ids(folders, "val") == ["valid-images-smear-1.jpg"]
    assert ids(folders, "train")[:2] == ["train-images-smear-1.jpg", "smear-2"]


def test_same_folder_twice(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": ["1"]})
    with pytest.raises(annotations.DataError, match="the same folder twice"):
        Folders([path, path / "../voc"])
    with pytest.raises(annotations.DataError, match="expected one folder or more"):
        Folders([])


def copy_image(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def test_image_of_val_is_left_out_of_train(tmp_path: Path) -> None:
    """Whatever its name, and in whichever folder: its figures would be too good."""
    a = write_voc(tmp_path / "a", {"train": ["1", "2"], "val": ["3"], "test": ["4"]})
    b = write_voc(tmp_path / "b", {"train": ["5", "6"], "val": ["7"]})
    copy_image(a / "JPEGImages/3.png", b / "JPEGImages/5.png")
    copy_image(a / "JPEGImages/4.png", a / "JPEGImages/1.png")
    folders = Folders([a, b])
    assert ids(folders, "train") == ["2", "6"]
    assert ids(folders, "val") == ["3", "7"]
    first, second = folders.read("train").problems
    assert (first.kind, first.fatal_for, first.file) == ("leakage", "image", "a/JPEGImages/1.png")
    assert first.message == "the same picture as a/JPEGImages/4.png, which is in test"
    assert second.message == "the same picture as a/JPEGImages/3.png, which is in val"


def test_picture_twice_in_what_is_held_out_of_is_no_leakage(tmp_path: Path) -> None:
    """It is this program that would put the copies on both sides, and it does not."""
    path = write_voc(tmp_path / "voc", {"train": numbered(6)})
    for number in range(1, 6):
        copy_image(path / "JPEGImages/photo-0.png", path / f"JPEGImages/photo-{number}.png")
    assert set(kinds(Folders([path]), "train")) == {"duplicate image"}
    assert ids(Folders([path]), "train") == []


def test_val_is_train(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": ["1", "2"], "val": ["2", "1"], "test": ["1", "2"]})
    folders = Folders([path])
    (problem,) = folders.read("train").problems
    assert (problem.kind, problem.fatal_for) == ("leakage", "split")
    assert problem.message == "train and val are one folder or list, in JPEGImages: name another"
    assert ids(folders, "train") == []
    assert ids(folders, "val") == ["1", "2"] or ids(folders, "val") == ["2", "1"]


def test_id_in_train_and_val(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": ["1", "2"], "val": ["2"], "trainval": ["1", "2"]})
    folders = Folders([path])
    assert ids(folders, "train") == ["1"]
    assert kinds(folders, "train") == ["leakage"]
    assert kinds(folders, "trainval") == []


def test_picture_of_val_and_test_is_told_and_kept(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"val": ["1", "2"], "test": ["2"]})
    folders = Folders([path])
    assert ids(folders, "val") == ["1", "2"]
    assert [(p.kind, p.fatal_for) for p in folders.read("val").problems] == [("leakage", "nothing")]


def test_picture_twice_in_a_split(tmp_path: Path) -> None:
    a = write_voc(tmp_path / "a", {"train": ["1", "2"]})
    b = write_voc(tmp_path / "b", {"train": ["3"]})
    copy_image(a / "JPEGImages/2.png", b / "JPEGImages/3.png")
    folders = Folders([a, b], val=0)
    assert ids(folders, "train") == ["1", "2"]
    problem = folders.read("train").problems[0]
    assert (problem.kind, problem.fatal_for) == ("duplicate image", "image")
    assert str(problem) == "b/JPEGImages/3.png: the same picture as a/JPEGImages/2.png"


def test_classes_are_renamed_and_dropped(tmp_path: Path) -> None:
    names = {"1": "rbc", "2": "Erythrocyte", "3": "dust", "4": "wbc"}
    path = write_voc(tmp_path / "voc", {"train": list(names), "val": ["5"]}, names)
    folders = Folders([path], rename=["rbc=RBC", "Erythrocyte=RBC", "dust=", "wbc=rbc"])
    dataset = folders.read("train")
    assert dataset.labels == ("RBC", "rbc")
    assert [annotation.labels for annotation in dataset.annotations] == [
        ("RBC",),
        ("RBC",),
        (),
        ("rbc",),
    ]
    assert dataset.problems == ()
    folders.check_renames(("train", "val"))


def test_class_to_rename_that_does_not_occur(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": ["1", "2", "3"], "val": ["4"]}, {"1": "disc"})
    folders = Folders([path], rename=["cross=disc"])
    with pytest.raises(
        annotations.DataError, match="no box has the class 'cross'; classes here: cell, disc"
    ):
        folders.check_renames(("train", "val"))


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (["cell"], "expected old=new, or old= to drop the class, found 'cell'"),
        (["=cell"], "expected old=new"),
        (["cell= a"], "printable class names"),
        (["cell=a", "cell=b"], "'cell' has two new names, 'a' and 'b'"),
    ],
)
def test_renames_are_checked(tmp_path: Path, rename: list[str], message: str) -> None:
    with pytest.raises(annotations.DataError, match=message):
        Folders([tmp_path], rename=rename)


def test_split_that_no_folder_has(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", {"train": ["1", "2"]})
    with pytest.raises(annotations.BadSplitError, match="no split test; splits here: train, val"):
        Folders([path]).read("test")
