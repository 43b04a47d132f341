import re
import subprocess
from pathlib import Path

import pytest

from serving.errors import PrerequisiteError
from serving.fleet.certificates import read_authorities, read_pair
from serving.fleet.keys import read_keys
from tests import certificates
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Besides what certificates.write makes: what is of no use."""
    folder = tmp_path_factory.mktemp("certificates")
    certificates.write(folder)
    text = (folder / "server.pem").read_text()
    (folder / "half.pem").write_text(text[: len(text) // 2])
    (folder / "half.key").write_text((folder / "server.key").read_text()[:80])
    (folder / "photo.pem").write_bytes(b"\xff\xd8")
    openssl(folder, "pkey -in server.key -aes256 -passout pass:secret -out locked.key")
    openssl(folder, "req -new -key server.key -subj /CN=late -out late.csr")
    openssl(folder, "req -x509 -newkey rsa:2048 -nodes -keyout any.key -subj /CN=any -out any.pem")
    openssl(folder, "x509 -req -in late.csr -CA any.pem -CAkey any.key -days -1 -out late.pem")
    (folder / "authority.txt").write_text("basicConstraints=CA:TRUE")
    signed = "-CA any.pem -CAkey any.key -extfile authority.txt"
    openssl(folder, f"x509 -req -in late.csr {signed} -days -1 -out late-ca.pem")
    openssl(folder, "req -x509 -newkey rsa:1024 -nodes -keyout weak.key -subj /CN=x -out weak.pem")
    return folder


def openssl(folder: Path, command: str) -> None:
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


def test_a_pair_that_belongs_together(folder: Path) -> None:
    pair = read_pair(folder / "server.pem", folder / "server.key")
    assert pair.chain == (folder / "server.pem").read_text()
    assert pair.key == (folder / "server.key").read_text()
    assert "PRIVATE" not in repr(pair)


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("server.pem", "client.key", "the key does not belong to the certificate"),
        ("late.pem", "server.key", "certificate has expired"),
        ("weak.pem", "weak.key", "the key is too short"),
        ("half.pem", "server.key", "one of them is damaged"),
        ("server.pem", "half.key", "one of them is damaged"),
        ("server.pem", "locked.key", "or the key wants a password"),
        ("server.key", "server.pem", r"server\.key holds no certificate as PEM"),
        ("server.pem", "server.pem", r"server\.pem holds no private key as PEM"),
        ("photo.pem", "server.key", "cannot be read: it is no text"),
        ("missing.pem", "server.key", r"missing\.pem cannot be read: No such file"),
        ("server.pem", "missing.key", r"missing\.key cannot be read: No such file"),
    ],
)
def test_a_pair_that_is_of_no_use(folder: Path, certificate: str, key: str, said: str) -> None:
    with pytest.raises(PrerequisiteError, match=said):
        read_pair(folder / certificate, folder / key)


def test_authorities(folder: Path) -> None:
    assert read_authorities(folder / "ca.pem") == (folder / "ca.pem").read_text()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("server.pem", "holds no certificate of an authority"),
        ("server.key", "holds no certificate of an authority"),
        ("late-ca.pem", "has expired, on"),
        ("missing.pem", "No such file"),
    ],
)
def test_authorities_that_are_none(folder: Path, file: str, said: str) -> None:
    with pytest.raises(PrerequisiteError, match=said):
        read_authorities(folder / file)


def test_the_commands_of_the_page_make_keys_and_certificates(tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "gateway.md").read_text()
    for commands in re.findall(r"```sh\n(.*?)```", page, re.DOTALL):
        subprocess.run(["sh", "-e"], input=commands, text=True, cwd=tmp_path, check=True)
    assert [*read_keys(tmp_path / "keys.txt").values()] == ["camera-1"]
    read_pair(tmp_path / "gateway.pem", tmp_path / "gateway.key")
    read_authorities(tmp_path / "ca.pem")
    verify = "verify -CAfile ca.pem"
    openssl(tmp_path, f"{verify} -purpose sslserver -verify_hostname localhost gateway.pem")
    openssl(tmp_path, f"{verify} -purpose sslclient camera-1.pem")
    assert [path.name for path in tmp_path.iterdir() if path.stat().st_mode & 0o077] == []
