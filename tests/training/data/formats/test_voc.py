"""Reading Pascal VOC: what is right comes out exactly, what is wrong is named and left out."""

import tempfile
import zlib
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.data import problems
from training.data.formats import voc, voc_xml

WIDTH, HEIGHT = 40, 30
BOX = ("5", "6", "20", "25")


def object_xml(box: Any = BOX, name: str = "cell", extra: str = "<difficult>0</difficult>") -> Any:
    edges = "".join(
        f"<{tag}>{value}</{tag}>"
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{escape(name)}</name>{extra}<bndbox>{edges}</bndbox></object>"


def annotation_xml(*objects: Any, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Any:
    width, height = size
    return (
        "<annotation><filename>../../../etc/passwd</filename>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        f"{''.join(objects)}</annotation>"
    )


class VocFolder:
    """A folder to write flaws into; every image is grey."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (path / part).mkdir(parents=True)

    def add(self, image_id: str, xml: str, suffix: str = ".png") -> Any:
        self.image(image_id, suffix)
        self.xml(image_id, xml)
        self.split("train", image_id)

    def image(
        self: Any, image_id: str, suffix: str = ".png", shape: Any = (HEIGHT, WIDTH, 3)
    ) -> Any:
        path = self.path / "JPEGImages" / f"{image_id}{suffix}"
        assert cv2.imwrite(str(path), np.full(shape, 128, np.uint8))
        return path

    def xml(self, image_id: str, text: str) -> Any:
        (self.path / "Annotations" / f"{image_id}.xml").write_text(text, encoding="utf-8")

    def split(self, name: str, *image_ids: Any) -> Any:
        with (self.path / "ImageSets/Main" / f"{name}.txt").open("a", encoding="utf-8") as file:
            file.writelines(f"{image_id}\n" for image_id in image_ids)

    def read(self, labels: Any = None, split: Any = "train") -> Any:
        return voc.Folder(self.path).read(split, labels)


@pytest.fixture
def folder(tmp_path: Path) -> VocFolder:
    return VocFolder(tmp_path / "voc")


def only(dataset: Any) -> Any:
    """The one problem of a data set."""
    assert len(dataset.problems) == 1, dataset.problems
    return dataset.problems[0]


def test_image_without_objects_is_an_image(folder: VocFolder) -> None:
    folder.add("a", annotation_xml())
    dataset = folder.read()
    assert dataset.problems == ()
    assert dataset.labels == ()
    assert dataset.annotations[0].boxes_xyxy.shape == (0, 4)
    assert dataset.annotations[0].difficult.shape == (0,)


def test_edges_count_from_zero(folder: VocFolder) -> None:
    """xmin = 1 and xmax = width is the whole image."""
    folder.add("a", annotation_xml(object_xml(("1", "1", str(WIDTH), str(HEIGHT)))))
    annotation = folder.read().annotations[0]
    assert annotation.boxes_xyxy.dtype == np.float32
    np.testing.assert_array_equal(annotation.boxes_xyxy, [[0, 0, WIDTH, HEIGHT]])
    assert (annotation.width, annotation.height) == (WIDTH, HEIGHT)


def test_flags(folder: VocFolder) -> None:
    flags = "<difficult>1</difficult><truncated>Unspecified</truncated>"
    folder.add("a", annotation_xml(object_xml(extra=flags), object_xml(extra="")))
    annotation = folder.read().annotations[0]
    assert annotation.difficult.tolist() == [True, False]
    assert annotation.truncated.tolist() == [False, False]


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        ("0.4", True),
        ("0.0", False),
        ("yes", True),
        ("no", False),
        ("Unknown", False),
        ("-1", False),
    ],
)
def test_flags_that_are_none_of_vocs(folder: VocFolder, value: str, flag: bool) -> None:
    """KITTI's truncation is a share; tools write words."""
    extra = f"<truncated>{value}</truncated><difficult>{value}</difficult>"
    folder.add("a", annotation_xml(object_xml(extra=extra)))
    dataset = folder.read()
    assert dataset.problems == ()
    assert dataset.annotations[0].truncated.tolist() == [flag]
    assert dataset.annotations[0].difficult.tolist() == [flag]


def test_flag_that_cannot_be_read_is_a_remark(folder: VocFolder) -> None:
    folder.add("a", annotation_xml(object_xml(extra="<difficult>maybe</difficult>")))
    dataset = folder.read()
    assert only(dataset).is_remark
    message = "expected 0 or 1 in <difficult>, found 'maybe'; taken for 0"
    assert str(only(dataset)) == f"Annotations/a.xml, object 0: {message}"
    assert dataset.annotations[0].difficult.tolist() == [False]


def test_boxes_of_parts_are_not_boxes_of_objects(folder: VocFolder) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    folder.add("a", annotation_xml(object_xml(extra=part)))
    dataset = folder.read()
    assert dataset.problems == ()
    np.testing.assert_array_equal(dataset.annotations[0].boxes_xyxy, [[4, 5, 20, 25]])


def test_labels_are_found_most_frequent_first_then_by_name(folder: VocFolder) -> None:
    names = ["b", "z", "a", "z"]
    folder.add("a", annotation_xml(*(object_xml(name=name) for name in names)))
    assert folder.read().labels == ("z", "a", "b")


@pytest.mark.parametrize("labels", [("a", "a"), ("",), ("a\nb",), (" a",)])
def test_labels_given_are_checked(folder: VocFolder, labels: Any) -> None:
    folder.add("a", annotation_xml())
    with pytest.raises(voc.DataError, match="different, printable class names"):
        folder.read(labels)


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jpeg", ".png", ".bmp"])
def test_image_is_found_by_its_id(folder: VocFolder, suffix: str) -> None:
    folder.add("my cell.1", annotation_xml(object_xml()), suffix)
    dataset = folder.read()
    assert dataset.problems == ()
    assert dataset.annotations[0].image_path.name == f"my cell.1{suffix}"


@pytest.mark.parametrize(
    ("box", "kind", "fatal_for"),
    [
        (("5", "6", "5", "6"), "zero area", "box"),
        (("5", "6", "5", "25"), "zero area", "image"),
        (("5", "25", "20", "6"), "zero area", "image"),
        (("41", "1", "50", "9"), "outside the image", "image"),
        (("-9", "1", "0", "9"), "outside the image", "image"),
        (("0.1", "0.3", "0.2", "0.9"), "shares, not pixels", "image"),
        (("40.8", "1", "42", "9"), "under a pixel", "image"),
        (("1", "1", "1e300", "9"), "clipped", "nothing"),
        (("30", "1", "42", "9"), "clipped", "nothing"),
        (("nan", "1", "4", "9"), "bad object", "image"),
        (("1", "1", "inf", "9"), "bad object", "image"),
        (("1", "ten", "4", "9"), "bad object", "image"),
        (("1", "", "4", "9"), "bad object", "image"),
    ],
)
def test_flawed_box(folder: VocFolder, box: Any, kind: str, fatal_for: str) -> None:
    """The flawed one is named by its file and index; an object that is lost takes its image along.

    The sound one beside it would be in an image whose rest counts as background.
    """
    folder.add("a", annotation_xml(object_xml(), object_xml(box)))
    dataset = folder.read()
    problem = only(dataset)
    assert (problem.file, problem.index) == ("Annotations/a.xml", 1)
    assert (problem.kind, problem.fatal_for) == (kind, fatal_for)
    if fatal_for == "image":
        assert dataset.annotations == ()
        return
    boxes_xyxy = dataset.annotations[0].boxes_xyxy
    assert len(boxes_xyxy) == (1 if fatal_for == "box" else 2)
    assert boxes_xyxy.min() >= 0
    assert boxes_xyxy.max() <= WIDTH


def test_rounding_of_one_pixel_is_clipped_without_a_word(folder: VocFolder) -> None:
    folder.add("a", annotation_xml(object_xml(("0", "0", "41", "30.5"))))
    dataset = folder.read()
    assert dataset.problems == ()
    np.testing.assert_array_equal(dataset.annotations[0].boxes_xyxy, [[0, 0, WIDTH, HEIGHT]])


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ("<object/>", "<name> is missing or empty"),
        ("<object><name>a</name></object>", "<bndbox> is missing"),
        (object_xml(name="\x9b31m"), "cannot be printed"),
    ],
)
def test_flawed_object(folder: VocFolder, element: str, message: str) -> None:
    folder.add("a", annotation_xml(element))
    problem = only(folder.read())
    assert message in problem.message
    assert str(problem).isprintable()
    assert (problem.kind, problem.index, problem.fatal_for) == ("bad object", 0, "image")


def test_class_outside_the_list(folder: VocFolder) -> None:
    folder.add("a", annotation_xml(object_xml(name="cell"), object_xml(name="Cell")))
    dataset = folder.read(labels=["cell"])
    assert dataset.annotations[0].labels == ("cell",)
    assert str(only(dataset)) == "Annotations/a.xml, object 1: expected one of cell, found 'Cell'"


BOMB = '<!DOCTYPE a [<!ENTITY x "aaaa"><!ENTITY y "&x;&x;&x;">]><annotation>&y;</annotation>'
FILE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("", "no element found"),
        ("<annotation>", "no element found"),
        ("<html/>", "found 'html'"),
        (BOMB, "EntitiesForbidden"),
        (FILE, "EntitiesForbidden"),
        ('<?xml version="1.0" encoding="no-such"?><annotation/>', "unknown encoding"),
        (" " * (voc_xml.XML_LIMIT + 1), "the limit is"),
    ],
)
def test_malformed_and_hostile_xml(folder: VocFolder, xml: str, message: str) -> None:
    folder.add("a", xml)
    folder.add("b", annotation_xml())
    dataset = folder.read()
    assert only(dataset).kind == "bad XML"
    assert message in only(dataset).message
    assert [annotation.image_id for annotation in dataset.annotations] == ["b"]


@pytest.mark.parametrize("content", ["", "no image", "truncated", "bomb"])
def test_image_that_does_not_decode(folder: VocFolder, content: Any) -> None:
    folder.add("a", annotation_xml(), ".jpg")
    path = folder.path / "JPEGImages/a.jpg"
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2]}.get(content, content.encode()))
    if content == "bomb":
        path.write_bytes(png_header(20000, 20000))
    dataset = folder.read()
    assert dataset.annotations == ()
    assert only(dataset).kind == "bad image"
    assert only(dataset).file == "JPEGImages/a.jpg"


def png_header(width: int, height: int) -> Any:
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    checksum = zlib.crc32(header).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + header + checksum


def test_two_images_of_one_id(folder: VocFolder) -> None:
    folder.add("a", annotation_xml())
    folder.image("a", ".jpg")
    assert "several images: a.jpg and a.png" in only(folder.read()).message


def test_missing_image_and_missing_annotation(folder: VocFolder) -> None:
    folder.xml("a", annotation_xml())
    folder.image("b")
    folder.split("train", "a", "b")
    kinds = {problem.file: problem.kind for problem in folder.read().problems}
    assert kinds == {
        "Annotations/a.xml": "missing image",
        "Annotations/b.xml": "missing annotation",
    }


@pytest.mark.parametrize("image_id", ["../JPEGImages/a", "..\\a", "/etc/passwd", "a\0b"])
def test_id_is_no_path(folder: VocFolder, image_id: str) -> None:
    folder.split("train", image_id)
    assert only(folder.read()).kind == "bad id"


def test_duplicate_id_is_read_once(folder: VocFolder) -> None:
    folder.add("a", annotation_xml())
    folder.split("train", "a", "a")
    dataset = folder.read()
    assert len(dataset.annotations) == 1
    assert "'a' stands 3 times" in only(dataset).message


@pytest.mark.parametrize(
    ("size", "box", "fatal_for"),
    [
        ((WIDTH + 1, HEIGHT), BOX, "nothing"),
        ((HEIGHT, WIDTH), BOX, "nothing"),
        ((80, 60), BOX, "image"),
        ((80, HEIGHT), BOX, "image"),
        ((20, 20), BOX, "image"),
        ((0, 0), BOX, "nothing"),
        (("", "x"), BOX, "nothing"),
        ((80, 60), ("50", "40", "70", "60"), "image"),
    ],
)
def test_size_that_disagrees(
    folder: VocFolder,
    size: tuple[int, int],
    box: Any,
    fatal_for: str,
) -> None:
    folder.add("a", annotation_xml(object_xml(box), size=size))
    dataset = folder.read()
    assert only(dataset).kind == "size disagrees"
    assert only(dataset).fatal_for == fatal_for
    assert [(a.width, a.height) for a in dataset.annotations] == (
        [(WIDTH, HEIGHT)] if fatal_for == "nothing" else []
    )


@pytest.mark.parametrize(
    ("resized", "size", "box"),
    [
        ("yes", (80, 60), [2, 2.5, 10, 12.5]),
        ("yes", (20, 30), [8, 5, 40, 25]),
        ("yes", (WIDTH, HEIGHT), [4, 5, 20, 25]),
        ("no", (80, 60), [4, 5, 20, 25]),
    ],
)
def test_photos_resized_since(
    folder: VocFolder, resized: Any, size: tuple[int, int], box: list[float]
) -> None:
    """Nobody can know it, so it is asked; each side has its own factor."""
    folder.add("a", annotation_xml(object_xml(), size=size))
    opened = voc.Folder(folder.path)
    opened.resized = resized
    np.testing.assert_array_equal(opened.read("train").annotations[0].boxes_xyxy, [box])


def rotate(path: Path) -> Any:
    """Mark an image as taken with the camera on its side: 40x30 is shown as 30x40."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)


def test_sizes_are_of_the_upright_image(folder: VocFolder) -> None:
    folder.add("a", annotation_xml(object_xml(), size=(HEIGHT, WIDTH)), ".jpg")
    rotate(folder.path / "JPEGImages/a.jpg")
    dataset = folder.read()
    assert dataset.problems == ()
    assert (dataset.annotations[0].width, dataset.annotations[0].height) == (HEIGHT, WIDTH)


def test_boxes_before_rotation_are_left_out(folder: VocFolder) -> None:
    """They might fit into the upright image, and would be wrong there."""
    folder.add("a", annotation_xml(object_xml(), size=(WIDTH, HEIGHT)), ".jpg")
    rotate(folder.path / "JPEGImages/a.jpg")
    problem = only(folder.read())
    assert "before EXIF rotation" in problem.message
    assert problem.fatal_for == "image"


def test_folder_without_the_layout(tmp_path: Path) -> None:
    with pytest.raises(voc.DataError, match="not a Pascal VOC folder; expected Annotations/"):
        voc.Folder(tmp_path)


def test_split_that_is_missing_empty_or_no_text(folder: VocFolder) -> None:
    with pytest.raises(problems.BadSplitError, match="no such split; splits here: all"):
        folder.read()
    folder.split("train")
    with pytest.raises(problems.BadSplitError, match="names no image"):
        folder.read()
    (folder.path / "ImageSets/Main/train.txt").write_bytes(b"\xff\xfe\0")
    with pytest.raises(problems.BadSplitError, match="not readable as UTF-8"):
        folder.read()
    with pytest.raises(problems.BadSplitError, match="splits here: train"):
        folder.read(split="val")


def test_class_lists_are_no_splits(folder: VocFolder) -> None:
    """VOC's own aeroplane_train.txt says of each image whether it has an aeroplane."""
    folder.split("aeroplane_train", "a -1", "b  1")
    folder.split("train", "a", "b")
    assert voc.Folder(folder.path).splits() == ["train"]


def test_list_whose_names_end_in_1_is_no_class_list(folder: VocFolder) -> None:
    folder.split("part", "photo 1", "photo 0")
    folder.add("photo 1", annotation_xml())
    folder.split("cell_part", "photo 1  1", "photo 0 -1")
    assert voc.Folder(folder.path).splits() == ["part", "train"]
    folder.split("valid", "scan 1", "scan 0")  # no such photo, and yet a list that somebody made
    assert voc.Folder(folder.path).splits() == ["part", "train", "val"]


def test_two_lists_of_one_split(folder: VocFolder) -> None:
    folder.split("val", "a")
    folder.split("validation", "b")
    with pytest.raises(voc.DataError, match=r"val\.txt and ImageSets/Main/validation\.txt are b"):
        voc.Folder(folder.path)


def test_list_that_is_a_link_out_of_the_folder(folder: VocFolder, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (folder.path / "ImageSets/Main/train.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(problems.BadSplitError, match="a link that leaves the folder"):
        folder.read()


@pytest.mark.parametrize("line", ["a", "a.png", "JPEGImages/day/a.png", "day\\a", "day/a"])
def test_line_of_a_list(folder: VocFolder, line: str) -> None:
    for part in ("Annotations", "JPEGImages"):
        (folder.path / part / "day").mkdir()
    folder.image("day/a")
    folder.xml("day/a", annotation_xml(object_xml()))
    folder.split("train", line)
    (found,) = folder.read().annotations
    assert (found.image_id, found.image_path.parent.name) == ("a", "day")


@pytest.mark.parametrize(
    ("xml", "image", "split"),
    [
        ("a.xml", "a.png", "all"),
        ("monday/a.xml", "monday/a.png", "all"),
        ("annotations/a.xml", "images/a.png", "all"),
        ("annots/a.xml", "images/a.png", "all"),
        ("annotations/xmls/a.xml", "images/a.png", "all"),
        ("boxes/a.xml", "jpg/a.png", "all"),
        ("valid/a.xml", "valid/a.png", "val"),
        ("test/annotations/a.xml", "test/images/a.png", "test"),
        ("Annotations/training/a.xml", "images/training/a.png", "train"),
        ("annotations/a.xml", "images/val2017/a.png", "val"),
        ("train_zip/train/a.xml", "train_zip/train/a.png", "train"),
    ],
)
def test_layouts(tmp_path: Path, xml: str, image: str, split: str) -> None:
    for name in (xml, image):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / xml).write_text(annotation_xml(object_xml()))
    assert cv2.imwrite(str(tmp_path / image), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash/b.xml").write_text(annotation_xml())
    opened = voc.Folder(tmp_path)
    assert opened.splits() == [split]
    (found,) = opened.read(split).annotations
    assert found.image_path == tmp_path / image
    assert opened.read(split).problems == ()
    assert opened.strays() == []


def test_what_does_not_pair_is_named(tmp_path: Path) -> None:
    """Two of a name are not guessed at; masks and pictures of a README are no images of the set."""
    folders = ("a/images", "b/images", "annotations", "masks", "train")
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a/images/1", "b/images/1", "a/images/2", "masks/2", "train/3", "a/images/4"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    for name in ("annotations/1", "annotations/2", "a/4"):
        (tmp_path / f"{name}.xml").write_text(annotation_xml(object_xml()))
    (tmp_path / "train/3.xml").write_text(annotation_xml())
    opened = voc.Folder(tmp_path)
    assert opened.splits() == ["train"]
    assert sorted(problem.file for problem in opened.strays()) == [
        "a/4.xml",
        "a/images/1.png",
        "a/images/2.png",
        "annotations/1.xml",
        "annotations/2.xml",
    ]


def test_strays(folder: VocFolder) -> None:
    folder.add("a", annotation_xml())
    folder.xml("lost", annotation_xml())
    opened = voc.Folder(folder.path)
    opened.read("train")
    assert [problem.file for problem in opened.strays()] == ["Annotations/lost.xml"]


def test_folder_without_image_sets_is_one_split(folder: VocFolder) -> None:
    """All annotations and all images, whichever of the two is missing."""
    folder.xml("b", annotation_xml(object_xml()))
    folder.image("b")
    folder.xml("a", annotation_xml())
    folder.image("c")
    opened = voc.Folder(folder.path)
    assert opened.splits() == ["all"]
    dataset = opened.read("all")
    assert [annotation.image_id for annotation in dataset.annotations] == ["b"]
    kinds = {problem.file: problem.kind for problem in dataset.problems}
    assert kinds == {
        "Annotations/a.xml": "missing image",
        "Annotations/c.xml": "missing annotation",
    }
    assert opened.strays() == []


@pytest.mark.parametrize("place", ["JPEGImages/a.png", "Annotations/a.xml"])
def test_link_out_of_the_folder(folder: VocFolder, tmp_path: Path, place: str) -> None:
    folder.add("a", annotation_xml(object_xml()))
    path = folder.path / place
    path.rename(tmp_path / path.name)
    path.symlink_to(tmp_path / path.name)
    problem = only(folder.read())
    assert (problem.file, problem.kind) == (place, "outside the folder")
    assert problem.fatal_for == "image"


corners = st.tuples(
    st.integers(1, WIDTH - 1), st.integers(1, HEIGHT - 1), st.integers(1, 30), st.integers(1, 30)
).map(lambda c: (c[0], c[1], min(c[0] + c[2], WIDTH), min(c[1] + c[3], HEIGHT)))
names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(corners, names, st.booleans()), max_size=8))
def test_round_trip(objects: Any) -> None:
    """Whatever is written comes back: boxes, names, flags, in their order."""
    with tempfile.TemporaryDirectory() as path:
        folder = VocFolder(Path(path) / "voc")
        elements = [
            object_xml(tuple(map(str, box)), name, f"<difficult>{int(difficult)}</difficult>")
            for box, name, difficult in objects
        ]
        folder.add("a", annotation_xml(*elements))
        dataset = folder.read()
    assert dataset.problems == ()
    annotation = dataset.annotations[0]
    assert annotation.labels == tuple(name for _, name, _ in objects)
    assert annotation.difficult.tolist() == [difficult for _, _, difficult in objects]
    written = np.array([box for box, _, _ in objects], np.float32).reshape(-1, 4)
    np.testing.assert_array_equal(annotation.boxes_xyxy, written - np.array([1, 1, 0, 0]))
