from pathlib import Path

import pytest

from serving.errors import PrerequisiteError
from serving.fleet.configuration import Address, Server
from serving.fleet.servers import format_servers, read_servers

TWO = [
    Server(Address("10.0.0.1", 8001), Address("10.0.0.1", 8000)),
    Server(Address("fd00::2", 8001), Address("fd00::2", 8000)),
]


def test_a_list_is_read_as_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "servers.txt"
    file.write_text("# all\n\n" + format_servers(TWO))
    assert read_servers(file) == TWO


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no server"),
        ("10.0.0.1:8001", "line 1: expected the addresses of gRPC and HTTP, such as"),
        ("10.0.0.1:8001 10.0.0.1", "found 10.0.0.1:8001 10.0.0.1"),
        ("a:1 a:2\na:1 a:2", "names a:1 twice"),
        ("a:0 a:2", "expected"),
    ],
)
def test_a_list_that_makes_no_sense(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "servers.txt").write_text(text)
    with pytest.raises(PrerequisiteError, match=said):
        read_servers(tmp_path / "servers.txt")


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="cannot be read: No such file"):
        read_servers(tmp_path / "servers.txt")
