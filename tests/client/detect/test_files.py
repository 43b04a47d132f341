from pathlib import Path

import pytest

from client.detect import files as photos


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_an_empty_folder_holds_no_photos(tmp_path: Path) -> None:
    assert photos.look_through(tmp_path) == ([], [])


def test_a_folder_is_searched_to_its_depth_for_images_only(tmp_path: Path) -> None:
    wanted = [tmp_path / "B.JPG", tmp_path / "a" / "b.webp", tmp_path / "a.png"]
    others = [tmp_path / "a" / "labels.xml", tmp_path / "notes.txt"]
    touch(*wanted, *others, tmp_path / ".DS_Store")
    (tmp_path / "folder.jpg").mkdir()
    assert photos.look_through(tmp_path) == (sorted(wanted), others)
    assert photos.find_images(tmp_path) == sorted(wanted)


@pytest.mark.parametrize("name", ["a.jpg", "notes.txt", "missing.jpg", "a" * 5000])
def test_a_path_that_is_no_folder_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "notes.txt")
    assert photos.look_through(tmp_path / name) == ([tmp_path / name], [])


def test_what_was_saved_below_the_folder_is_not_read_again(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "drawn" / "a.jpg")
    assert photos.look_through(tmp_path, leave_out=[tmp_path / "drawn"]) == (
        [tmp_path / "a.jpg"],
        [],
    )
    assert photos.look_through(tmp_path / "drawn", leave_out=[tmp_path / "drawn"]) == ([], [])


def test_none_have_no_targets(tmp_path: Path) -> None:
    assert photos.targets([], tmp_path) == []


def test_a_target_has_the_photos_name(tmp_path: Path) -> None:
    assert photos.targets([Path("in/a.jpg")], tmp_path) == [tmp_path / "a.jpg"]


def test_photos_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    names = ["x/a.jpg", "y/a.jpg", "z/A.JPG", "x/a-2.jpg", "x/a.png"]
    targets = [path.name for path in photos.targets(map(Path, names), tmp_path)]
    assert targets == ["a.jpg", "a-2.jpg", "A-3.JPG", "a-2-2.jpg", "a.png"]


def test_thousands_of_one_name_are_numbered_as_fast_as_others(tmp_path: Path) -> None:
    """Each number is tried once: a second pass over all of them for each would take minutes."""
    tried = 0

    def key(path: Path) -> str:
        nonlocal tried
        tried += 1
        return path.name

    names = photos.Names(key)
    assert [names.free(Path("a.jpg")).name for _ in range(3)] == ["a.jpg", "a-2.jpg", "a-3.jpg"]
    assert len({names.free(Path("a.jpg")) for _ in range(5000)}) == 5000
    assert tried < 5 * 5003


def test_a_photo_is_not_overwritten_by_its_own_drawing(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    assert photos.targets([tmp_path / "a.jpg"], tmp_path) == [tmp_path / "a-2.jpg"]


def test_a_photo_is_not_overwritten_through_a_link(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.jpg")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.jpg").symlink_to(tmp_path / "in" / "a.jpg")
    targets = photos.targets([tmp_path / "in" / "a.jpg"], tmp_path / "out")
    assert targets == [tmp_path / "out" / "a-2.jpg"]


def test_a_name_without_an_images_suffix_becomes_a_png(tmp_path: Path) -> None:
    targets = photos.targets([Path("photo"), Path("scan.gif")], tmp_path)
    assert [path.name for path in targets] == ["photo.png", "scan.gif.png"]
