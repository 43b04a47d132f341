from pathlib import Path

import pytest

from serving.errors import PrerequisiteError
from serving.fleet.keys import read_keys

OLD, NEW = "0123456789abcdef", "AZaz09.-_~+/=....."


def test_a_name_may_have_several_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(f"# who may ask\n\ncamera-1 {OLD}\n  camera-1\t{NEW}  # from May on\n")
    assert read_keys(file) == {OLD: "camera-1", NEW: "camera-1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no key"),
        ("# camera 0123456789abcdef", "holds no key"),
        ("camera", "line 1: expected a name and a key, .* found one word: make a key with openssl"),
        (f"my camera {OLD}", "found 3 words"),
        ("camera short-secret", "found another key, of 12 characters"),
        ("camera very-secret-but-with-a-#-in-it", "found another key, of 30 characters"),
        (f"caméra {OLD}", "found another name"),
        (f"a {OLD}\n\nb {OLD}", "line 3: that key stands there before"),
    ],
)
def test_a_list_that_makes_no_sense(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "keys.txt").write_text(text, encoding="utf-8")
    with pytest.raises(PrerequisiteError, match=said) as caught:
        read_keys(tmp_path / "keys.txt")
    assert "secret" not in str(caught.value)
    assert OLD not in str(caught.value)
