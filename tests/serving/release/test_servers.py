"""Which servers a release goes to, and what it refuses before it changes anything."""

import re
from pathlib import Path

import pytest
from tritonclient.utils import InferenceServerException

from serving.__main__ import main
from serving.control import Control, sample_photo
from serving.errors import PublishError
from serving.release.promote import RollbackSettings, rollback
from serving.release.publish import CanarySettings, canary
from serving.release.servers import Servers, read_addresses
from serving.repository import State
from serving.server.server import EmbeddedServer, ServerSettings
from tests.conftest import PROJECT
from tests.serving.service import UNTRIED, Pair

NOBODY = "127.0.0.1:9"


def test_addresses(tmp_path: Path) -> None:
    assert read_addresses("a:1") == ["a:1"]
    assert read_addresses("a:1, b:2,[::1]:3") == ["a:1", "b:2", "[::1]:3"]
    (tmp_path / "fleet").write_text("# two\na:1 a:2\n\nb:2  # the other\n")
    assert read_addresses(f"@{tmp_path}/fleet") == ["a:1", "b:2"]
    assert "127.0.0.1:1" in read_addresses("dns:localhost:1")
    assert read_addresses("dns:::1:1") == ["[::1]:1"]


def test_a_name_stands_for_all_servers_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", (host, 8001)) for host in ("10.0.0.9", "10.0.0.2", "fd00::1")]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    expected = ["10.0.0.2:8001", "10.0.0.9:8001", "[fd00::1]:8001"]
    assert read_addresses("dns:ssd-triton:8001") == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (",", "must be host:port of Triton's gRPC port, such as 127.0.0.1:8001, .* got ''"),
        ("a:1,b", "must be host:port of Triton's gRPC port, .* got 'b'"),
        ("a:1,http://b:2", "--url a:1,http://b:2: must be host:port of gRPC, found http://b:2"),
        ("a:1,b:2,a:1", "--url a:1,b:2,a:1: a:1 is there 2 times"),
        ("@absent", "--url @absent: the file cannot be read: .*No such file"),
        ("dns:ssd-triton.invalid:1", "dns:ssd-triton.invalid:1: no address is known of it"),
        ("dns:localhost", "dns:localhost: no address is known of it .*expected HOST:PORT"),
        ("@{empty}", "the file is empty, expected an address on each line"),
    ],
)
@pytest.mark.parametrize("command", ["rollback", "releases", "compare photo.jpg"])
def test_addresses_that_are_none(
    command: str, text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "photo.jpg").write_bytes(sample_photo())
    where = ["--repository", str(PROJECT / "model_repository")]
    given = ["--url", text.format(empty=tmp_path / "empty")]
    words_of_command = command.replace("photo.jpg", str(tmp_path / "photo.jpg")).split()
    if command.startswith("compare"):
        where = []
    assert main([*words_of_command, *where, *given]) == 1
    said = capsys.readouterr()
    assert re.fullmatch(f"error: [^\n]*{words}[^\n]*\n", said.err), said.err
    assert said.out == ""


def test_no_servers() -> None:
    nobody = Servers({})
    assert not nobody
    assert nobody.each(lambda control: control.load("ssd")) == {}
    assert nobody.leave_out_silent() == []


def test_what_fails_is_named_and_the_others_are_waited_for(pair: Pair) -> None:
    with pair.server.control() as there, Control(NOBODY, "a key") as nobody:
        servers = Servers({"there": there, "nobody": nobody})
        with pytest.raises(InferenceServerException, match="nobody: failed to connect"):
            servers.each(lambda control: control.metadata("ssd", ""))
        with servers.going_on() as lost:
            assert list(servers.each(lambda control: control.has_version("ssd", "1"))) == ["there"]
            assert servers.each(lambda control: control.has_version("ssd", "1")) == {"there": True}
        assert list(lost) == ["nobody"]
        assert len(servers) == 2
        assert servers.leave_out_silent() == ["nobody"]
        assert list(servers.controls) == ["there"]


def test_one_of_another_repository(pair: Pair, better: Path, project_repository: Path) -> None:
    """Nothing is changed anywhere."""
    settings = ServerSettings(project_repository, admin_key=pair.server.admin_key)
    with EmbeddedServer(settings) as other:
        before = pair.files()
        url = f"{pair.url},{other.grpc_url}"
        with pytest.raises(PublishError, match=f"^{other.grpc_url}.*: does it serve "):
            pair.publish(better, url=url)
        assert pair.files() == before
        assert pair.states() == [State(1), State(1)]


def test_one_with_another_key(
    pair: Pair, better: Path, server: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    before = pair.files()
    with pytest.raises(PublishError, match=f"^{server.grpc_url} does not accept this command: "):
        pair.publish(better, url=f"{pair.url},{server.grpc_url}")
    assert pair.files() == before
    assert pair.states() == [State(1), State(1)]
    assert main(["releases", *pair.options(), f"--url={pair.url},{server.grpc_url}"]) == 1
    assert f"{server.grpc_url}: " in capsys.readouterr().err


def test_none_answers(pair: Pair, better: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = pair.files()
    with pytest.raises(PublishError, match=f"^{NOBODY} does not accept this command: .*connect"):
        pair.publish(better, url=f"{NOBODY},127.0.0.1:10")
    assert pair.files() == before


def test_compare(pair: Pair, better: Path, smear: Path, capsys: pytest.CaptureFixture[str]) -> None:
    canary(CanarySettings(artifact=better, share=0.5, **pair.where(), **UNTRIED))
    assert main(["compare", str(smear), "--url", pair.url]) == 0
    assert "1 photos to each of ensemble and ensemble_canary" in capsys.readouterr().out
    assert main(["compare", str(smear), "--url", f"{pair.url},{NOBODY}"]) == 1
    assert f"no Triton server answers at {NOBODY}: nothing listens there" in capsys.readouterr().err
    rollback(RollbackSettings(**pair.where()))
