"""Reading YOLO: what is right comes out exactly, what is wrong is named and left out."""

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.data import annotations, problems
from training.data.formats import yolo, yolo_names
from training.data.layouts import open_folder

WIDTH, HEIGHT = 40, 30
BOX = "0 0.5 0.5 0.25 0.5"
NAMES = "names: [cell, speck]\n"


class YoloFolder:
    """A folder to write flaws into; every image is grey."""

    def __init__(self, path: Path, settings: str = NAMES) -> None:
        self.path = path
        self.text("data.yaml", settings)

    def text(self, name: str, text: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text, encoding="utf-8")

    def image(self, name: str = "images/train/a.png") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
        return path

    def labels(self, *lines: str, name: str = "labels/train/a.txt") -> None:
        self.text(name, "".join(f"{line}\n" for line in lines))

    def read(self, labels: Any = None, split: str = "train") -> annotations.Dataset:
        return yolo.Folder(self.path).read(split, labels)


@pytest.fixture
def folder(tmp_path: Path) -> YoloFolder:
    """One image in train, and no objects yet."""
    folder = YoloFolder(tmp_path / "yolo")
    folder.image()
    folder.labels()
    return folder


def only(dataset: annotations.Dataset) -> problems.Problem:
    """The one problem of a data set."""
    assert len(dataset.problems) == 1, dataset.problems
    return dataset.problems[0]


def test_image_without_objects_is_an_image(folder: YoloFolder) -> None:
    dataset = folder.read()
    assert dataset.problems == ()
    assert dataset.annotations[0].image_id == "a"
    assert dataset.annotations[0].boxes_xyxy.shape == (0, 4)


def test_boxes_come_out_in_pixels(folder: YoloFolder) -> None:
    folder.labels(BOX, "", "1.000e+00 0.5 0.5 1 1")
    dataset = folder.read()
    assert dataset.problems == ()
    annotation = dataset.annotations[0]
    assert annotation.labels == ("cell", "speck")
    np.testing.assert_allclose(
        annotation.boxes_xyxy, [[15, 7.5, 25, 22.5], [0.0, 0, WIDTH, HEIGHT]]
    )
    assert not annotation.difficult.any()


def test_polygons_become_their_bounding_boxes(folder: YoloFolder) -> None:
    folder.labels("0 0.5 0.1 0.75 0.5 0.25 0.9", "1 0.1 0.2 0.3 0.2 0.3 0.4 0.1 0.4")
    boxes_xyxy = folder.read().annotations[0].boxes_xyxy
    np.testing.assert_allclose(boxes_xyxy, [[10, 3, 30, 27], [4, 6, 12, 12]], rtol=1e-6)


def test_sizes_are_of_the_upright_image(folder: YoloFolder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder.path / "images/train/a.png").unlink()
    with Image.open(folder.image("images/train/a.jpg")) as picture:
        picture.save(folder.path / "images/train/a.jpg", exif=exif)
    folder.labels("0 0.5 0.5 1 1")
    np.testing.assert_array_equal(folder.read().annotations[0].boxes_xyxy, [[0, 0, HEIGHT, WIDTH]])


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("0 0.5 0.5 0 0.5", "zero area", "found 0.5 0.5 0 0.5"),
        ("0 0.5 0.5 0 0", "zero area", "found 0.5 0.5 0 0"),
        ("0 0.5 0.5 0.001 0.5", "under a pixel", "0.5 0.5 0.001 0.5 in an image of 40x30"),
        ("0 0.5 0.5 -0.1 0.5", "zero area", "a height above 0"),
        ("0 0.1 0.2 0.3 0.2 0.4 0.2", "zero area", "found 0.1 0.2 0.3 0.2"),
        ("0 1.5 0.5 0.1 0.5", "outside the image", "1.5 0.5 0.1 0.5 in an image of 40x30"),
        ("0 320 240 50 60", "outside the image", "320 240 50 60"),
        ("0 0.9 0.5 0.5 0.5", "clipped", "0.9 0.5 0.5 0.5"),
        ("0 0.5 nan 0.1 0.5", "bad object", "expected a number in the line, found 'nan'"),
        ("0 0.5 0.5 0.1 inf", "bad object", "found 'inf'"),
        ("0 0.5 0.5 0,1 0.5", "bad object", "found '0,1'"),
        ("0 0.5 0.5 0.1", "bad object", "found 4 numbers"),
        ("0 0.5 0.5 0.1 0.5 0.98", "bad object", "found 6 numbers"),
        ("0 0.5 0.5 0.1 0.5 0.1 0.2 0.3", "bad object", "found 8 numbers"),
        ("cell 0.5 0.5 0.1 0.5", "bad object", "found 'cell'"),
        ("2 0.5 0.5 0.1 0.5", "unknown class", "class 2 has no name, those that have are 0 to 1"),
        ("-1 0.5 0.5 0.1 0.5", "unknown class", "class -1"),
        ("0.5 0.5 0.5 0.1 0.5", "unknown class", "class 0.5"),
    ],
)
def test_flawed_line(folder: YoloFolder, line: str, kind: str, message: str) -> None:
    """The flawed one is named by its file and line; it takes its image along."""
    folder.labels(BOX, line)
    dataset = folder.read()
    problem = only(dataset)
    assert (problem.file, problem.index, problem.kind) == ("labels/train/a.txt", 1, kind)
    assert message in problem.message
    boxes = 1 if line.endswith(" 0 0") else {"clipped": 2}.get(kind)
    assert problem.fatal_for == {2: "nothing", 1: "box", None: "image"}[boxes]
    assert [len(found.labels) for found in dataset.annotations] == [boxes] * (boxes is not None)


def test_image_without_a_text_file(folder: YoloFolder) -> None:
    """To YOLO it is one without objects; the annotation may just as well be lost."""
    (folder.path / "labels/train/a.txt").unlink()
    dataset = folder.read()
    assert (only(dataset).kind, only(dataset).fatal_for) == ("missing annotation", "nothing")
    assert len(dataset.annotations) == 1


def test_text_that_is_none(folder: YoloFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.path / "labels/train/a.txt").write_bytes(b"\xff\xfe\0")
    assert (only(folder.read()).kind, only(folder.read()).fatal_for) == ("bad text", "image")
    monkeypatch.setattr(yolo, "TEXT_LIMIT", 2)
    assert "the limit is 2" in only(folder.read()).message


def test_image_that_does_not_decode(folder: YoloFolder) -> None:
    (folder.path / "images/train/a.png").write_bytes(b"no image")
    assert (only(folder.read()).file, only(folder.read()).kind) == (
        "images/train/a.png",
        "bad image",
    )


def test_two_images_of_one_text_file(folder: YoloFolder) -> None:
    folder.image("images/train/a.jpg")
    assert "several images: a.jpg and a.png" in only(folder.read()).message
    assert folder.read().annotations == ()


@pytest.mark.parametrize("place", ["images/train/a.png", "labels/train/a.txt"])
def test_link_out_of_the_folder(folder: YoloFolder, tmp_path: Path, place: str) -> None:
    path = folder.path / place
    path.rename(tmp_path / path.name)
    path.symlink_to(tmp_path / path.name)
    assert (only(folder.read()).file, only(folder.read()).kind) == (place, "outside the folder")


def test_strays(folder: YoloFolder) -> None:
    folder.labels(BOX, name="labels/train/lost.txt")
    folder.labels("cell", name="labels/train/classes.txt")
    strays = yolo.Folder(folder.path).strays()
    assert [(problem.file, problem.kind) for problem in strays] == [
        ("labels/train/lost.txt", "missing image")
    ]


@pytest.mark.parametrize(
    ("picture", "text", "settings", "split"),
    [
        ("images/train/a.png", "labels/train/a.txt", NAMES, "train"),
        ("images/val2017/b/a.png", "labels/val2017/b/a.txt", NAMES, "val"),
        ("valid/images/a.png", "valid/labels/a.txt", NAMES, "val"),
        ("valid/images/a.png", "valid/labels/a.txt", NAMES + "val: ../valid/images\n", "val"),
        ("images/a.png", "labels/a.txt", NAMES, "all"),
        ("images/monday/a.png", "labels/monday/a.txt", NAMES, "all"),
        ("images/monday/a.png", "labels/monday/a.txt", NAMES + "train: images/monday\n", "train"),
        ("images/monday/a.png", "labels/monday/a.txt", NAMES + "train: [images/monday]\n", "train"),
        ("sub/images/a.png", "sub/labels/a.txt", NAMES + "path: sub\nval: images\ntest:\n", "val"),
        ("pictures/a.png", "pictures/a.txt", NAMES + "train: pictures\n", "train"),
        ("images/train/a.png", "labels/train/a.txt", NAMES + "train: /content/train\n", "train"),
    ],
)
def test_layouts(tmp_path: Path, picture: str, text: str, settings: str, split: str) -> None:
    folder = YoloFolder(tmp_path, settings)
    folder.image(picture)
    folder.labels(BOX, name=text)
    assert split in yolo.Folder(tmp_path).splits()
    dataset = folder.read(split=split)
    assert dataset.problems == ()
    assert dataset.annotations[0].image_path == tmp_path / picture
    assert dataset.annotations[0].labels == ("cell",)


def test_lists_of_images(folder: YoloFolder) -> None:
    """As Ultralytics writes them, and with every way out of the folder."""
    folder.text("data.yaml", NAMES + "train: lists/train.txt\n")
    lines = ["images/train/a.png", "./../images/train/a.png", "images/no.png"]
    folder.text("lists/train.txt", "\n".join([*lines, "/etc/passwd", "../../b.png", "c\0.png"]))
    dataset = folder.read()
    assert [annotation.image_id for annotation in dataset.annotations] == ["a"]
    assert [problem.kind for problem in dataset.problems] == [
        "duplicate id",
        "missing image",
        "bad id",
        "bad id",
        "missing image",
    ]
    assert all(str(problem).isprintable() for problem in dataset.problems)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("train: ../../elsewhere", "'../../elsewhere' is no folder or list within"),
        ("val: images/no", "val: 'images/no' is no folder or list within"),
        ("test: a.txt", "test: 'a.txt' is no folder or list"),
    ],
)
def test_named_split_that_is_not_there(tmp_path: Path, settings: str, message: str) -> None:
    """It is not taken for a folder without that split."""
    folder = YoloFolder(tmp_path, NAMES + settings)
    folder.image("images/a.png")
    (tmp_path.parent / "elsewhere").mkdir(exist_ok=True)
    with pytest.raises(problems.BadSplitError, match=message):
        folder.read(split=settings.partition(":")[0])


def test_split_that_is_missing_or_empty(folder: YoloFolder) -> None:
    with pytest.raises(problems.BadSplitError, match="no split val; splits here: train"):
        folder.read(split="val")
    (folder.path / "images/train/a.png").unlink()
    with pytest.raises(problems.BadSplitError, match=r"the split train has no image"):
        folder.read()
    folder.text("data.yaml", NAMES + "train: list.txt\n")
    (folder.path / "list.txt").write_bytes(b"\xff\xfe\0")
    with pytest.raises(problems.BadSplitError, match=r"list.txt: not readable as UTF-8"):
        folder.read()


def test_names_by_number(folder: YoloFolder) -> None:
    """Text as it stands: YAML 1.1 would take `no` for false."""
    folder.text("data.yaml", 'names:\n  7: no\n  "3": red  cell\n')
    folder.labels("7 0.5 0.5 0.5 0.5", "3 0.5 0.5 0.5 0.5")
    assert folder.read().annotations[0].labels == ("no", "red cell")


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nnames: *c\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected `names: "),
        ("names: [cell", "not acceptable as YAML"),
        ("[names]", "expected `names: "),
        ("names: []", r"names: expected \[cell"),
        ("names: cell", r"names: expected \[cell"),
        ("names: {a: cell}", "names: expected"),
        ("names: {-1: cell}", "names: expected"),
        ("names: [[cell]]", "names: expected a class name"),
        ('names: ["\\e[31m"]', "cannot be printed"),
        ("names: [a]\nkpt_shape: [17, 3]", "labels with keypoints are not read"),
        ("names: [a]\ntrain: {a: b}", "train: expected a folder"),
        ("names: !!python/object/apply:os.system [[echo]]", "names: expected a class name"),
        (BOMB, r"aliases .* are refused"),
        ("names: " + "[" * 50_000, "deep nesting are refused"),
        ("names: [a]\n" + "#" * yolo_names.YAML_LIMIT, "the limit is"),
    ],
)
def test_malformed_and_hostile_yaml(folder: YoloFolder, text: str, message: str) -> None:
    folder.text("data.yaml", text)
    with pytest.raises(problems.DataError, match=message) as caught:
        yolo.Folder(folder.path)
    assert "\n" not in str(caught.value)


def test_folder_without_the_layout(tmp_path: Path) -> None:
    with pytest.raises(
        problems.DataError, match=r"write them into classes.txt, .*; expected data.yaml"
    ):
        yolo.Folder(tmp_path)


class NamedByText(YoloFolder):
    """A folder whose class names stand in a text file."""

    def __init__(self, path: Path, names: str = "classes.txt") -> None:
        self.path = path
        self.text(names, "\ufeffcell\r\nspeck\r\n\r\n")


@pytest.mark.parametrize(
    ("names", "picture", "text"),
    [
        ("classes.txt", "images/a.png", "labels/a.txt"),
        ("labels/classes.txt", "images/a.png", "labels/a.txt"),
        ("classes.txt", "a.PNG", "a.txt"),  # LabelImg
        ("classes.txt", "monday/images/a.png", "monday/labels/a.txt"),
        ("obj.names", "obj_train_data/a.png", "obj_train_data/a.txt"),
    ],
)
def test_class_names_in_a_text_file(tmp_path: Path, names: str, picture: str, text: str) -> None:
    folder = NamedByText(tmp_path, names)
    path = folder.image(picture)
    folder.labels("1 0.5 0.5 0.25 0.5", name=text)
    (tmp_path / "notes.json").write_text('{"categories": []}')
    opened = open_folder(tmp_path)
    dataset = opened.read("all")
    assert (dataset.problems, opened.strays()) == ((), [])
    assert [(a.image_path, a.labels) for a in dataset.annotations] == [(path, ("speck",))]


def test_class_names_alone_are_no_labels(tmp_path: Path) -> None:
    """The annotations may be COCO's; YOLO would take every image for one without objects."""
    NamedByText(tmp_path).image("images/a.png")
    assert not yolo.fits(tmp_path)


@pytest.mark.parametrize("prefix", ["data/", "", "/home/me/darknet/", "C:\\yolo\\", "./"])
def test_lists_of_cvat_and_darknet(tmp_path: Path, prefix: str) -> None:
    """Their paths begin where the folder was made."""
    folder = NamedByText(tmp_path, "obj.names")
    folder.text("obj.data", "classes = 2\ntrain = data/train.txt\nvalid=data/valid.txt\n")
    for split, name in (("train", "a"), ("valid", "b")):
        folder.image(f"obj_{split}_data/{name}.png")
        folder.labels(BOX, name=f"obj_{split}_data/{name}.txt")
        folder.text(f"{split}.txt", f"{prefix}obj_{split}_data/{name}.png\n")
    for split, name in (("train", "a"), ("val", "b")):
        dataset = folder.read(split=split)
        assert dataset.problems == ()
        assert [(a.image_id, a.labels) for a in dataset.annotations] == [(name, ("cell",))]


def test_a_list_is_not_guessed_at_where_its_paths_lead_somewhere(folder: YoloFolder) -> None:
    """Or a photo that is missing would be taken for another one of that name."""
    folder.text("data.yaml", NAMES + "train: list.txt\n")
    folder.text("list.txt", "images/train/a.png\nmonday/images/train/a.png\n")
    assert only(folder.read()).kind == "missing image"


def test_pictures_that_are_not_read_are_named(folder: YoloFolder) -> None:
    """Beside others of their names too, as phones store them."""
    for name in ("a.HEIC", "neg.gif", "b.avif"):
        (folder.path / "images/train" / name).write_bytes(b"picture")
    folder.labels(BOX, name="labels/train/b.txt")
    dataset = folder.read()
    assert len(dataset.annotations) == 1
    assert [(p.file, p.kind, p.fatal_for) for p in dataset.problems] == [
        (f"images/train/{name}", "bad image", "image") for name in ("a.HEIC", "b.avif", "neg.gif")
    ]
    assert "save it as JPEG or PNG" in dataset.problems[0].message
    assert yolo.Folder(folder.path).strays() == []


@pytest.mark.parametrize("suffix", [".webp", ".tif", ".TIFF", ".jfif", ".JPG"])
def test_all_that_the_server_reads(folder: YoloFolder, suffix: str) -> None:
    (folder.path / "images/train/a.png").unlink()
    kind = {".jfif": "JPEG", ".tif": "TIFF"}.get(suffix)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder.path / f"images/train/a{suffix}", kind)
    folder.labels(BOX)
    assert folder.read().problems == ()
    assert len(folder.read().annotations[0].labels) == 1


shares = st.floats(0.05, 0.45)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), shares, shares, shares, shares), max_size=8))
def test_round_trip(objects: Any) -> None:
    """Whatever is written comes back, as boxes and as polygons of their corners."""
    with tempfile.TemporaryDirectory() as path:
        folder = YoloFolder(Path(path))
        folder.image()
        lines = []
        for number, x, y, w, h in objects:
            lines.append(f"{number} {x + w / 2} {y + h / 2} {w} {h}")
            lines.append(f"{number} {x} {y} {x + w} {y} {x + w} {y + h} {x} {y + h}")
        folder.labels(*lines)
        dataset = folder.read()
    assert dataset.problems == ()
    edges = [[x, y, x + w, y + h] for _, x, y, w, h in objects for _ in range(2)]
    expected = np.array(edges).reshape(-1, 4) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    np.testing.assert_allclose(dataset.annotations[0].boxes_xyxy, expected, atol=1e-4)
