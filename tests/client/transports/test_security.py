"""What is refused at once, and TLS and keys before a real tritonserver and a real proxy."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from client import (
    Detector,
    DetectorError,
    InvalidParameter,
    Security,
    ServerError,
    ServerUnavailable,
)
from serving.server.server import EmbeddedServer, ServerSettings
from tests import certificates
from tests.client.conftest import Service
from tests.conftest import PROJECT, wait_until

INFERENCE_KEY = "only for friends"
KEY_HEADER = "triton-grpc-protocol-infer-key"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of PEM files, see certificates.write."""
    folder = tmp_path_factory.mktemp("certificates")
    certificates.write(folder)
    return folder


@pytest.fixture(scope="module")
def mutual(files: Path) -> Security:
    """What the server wants."""
    return Security(ca=files / "ca.pem", certificate=files / "client.pem", key=files / "client.key")


# Settings.


def test_nothing_is_set_unless_it_is_given() -> None:
    assert Security().headers() == {}
    assert not Security().has_files


def test_a_key_is_sent_under_a_name_in_lower_case() -> None:
    assert Security(api_key="secret").headers() == {"x-api-key": "secret"}
    bearer = Security(api_key="Bearer token", api_key_header="Authorization")
    assert bearer.headers() == {"authorization": "Bearer token"}


def test_a_key_is_not_printed() -> None:
    assert "secret" not in repr(Security(api_key="secret"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"certificate": "a.pem"}, "only of use together"),
        ({"key": "a.key"}, "only of use together"),
        ({"api_key_header": "x key"}, "'x key' cannot be the name of a header"),
        ({"api_key_header": ""}, "cannot be the name of a header"),
        ({"api_key": "two\r\nlines"}, "the API key must be printable ASCII"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidParameter, match=says):
        Security(**settings)


@pytest.mark.parametrize("url", ["grpcs://a:1", "https://a:1"])
def test_files_that_are_none_are_refused_at_once(url: str, files: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    for ca, says in (("missing.pem", "No such file"), (tmp_path / "text.pem", "no certificates")):
        with pytest.raises(InvalidParameter, match=says):
            Detector(url, security=Security(ca=ca))
    stolen = Security(certificate=files / "client.pem", key=files / "server.key")
    with pytest.raises(InvalidParameter, match=r"client\.pem.*no certificate and its key"):
        Detector(url, security=stolen)


@pytest.mark.parametrize("url", ["a:1", "http://a:1", "grpcs://a:1,b:1"])
def test_certificates_without_tls_are_refused(url: str, files: Path) -> None:
    with pytest.raises(InvalidParameter, match=r"grpcs:// or https:// only"):
        Detector(url, security=Security(ca=files / "ca.pem"))


def test_a_key_travels_with_each_request(service: Service) -> None:
    service.canary = {"canary_version": "7", "canary_share": "0"}
    security = Security(api_key="secret", api_key_header="X-Key")
    with Detector(service.url, security=security, canary_key="camera") as detector:
        detector.detect(b"image")
    assert [headers["x-key"] for headers in service.headers] == ["secret"] * 2


# A real tritonserver that wants certificates, and a key for inference.


@pytest.fixture(scope="module")
def keyed(mutual: Security) -> Security:
    """What the server wants for an inference."""
    return replace(mutual, api_key=INFERENCE_KEY, api_key_header=KEY_HEADER)


@pytest.fixture(scope="module")
def guarded(files: Path, keyed: Security, smear: Path) -> Iterator[str]:
    """The address of a server that takes nobody without a certificate and a key.

    It is launched, not started: its supervisor has neither, and would wait for ever.
    """
    arguments = (
        "--grpc-use-ssl=true",
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={files / 'server.pem'}",
        f"--grpc-server-key={files / 'server.key'}",
        f"--grpc-root-cert={files / 'ca.pem'}",
        f"--grpc-restricted-protocol=inference:infer-key={INFERENCE_KEY}",
    )
    settings = ServerSettings(
        PROJECT / "model_repository", arguments=arguments, start_seconds=600, drain_seconds=0
    )
    server = EmbeddedServer(settings)
    server.launch()
    url = f"grpcs://{server.grpc_url}"
    try:
        with Detector(url, security=keyed) as detector:
            wait_until(lambda: detector.detect(smear), retry=DetectorError)
        yield url
    finally:
        server.stop()


def test_certificates_and_a_key_open_the_server(guarded: str, keyed: Security, smear: Path) -> None:
    with Detector(guarded, security=keyed) as detector:
        result = detector.detect(smear)
    assert result.detections
    assert result.server == guarded


def test_without_the_key_the_server_says_so_and_is_not_asked_again(
    guarded: str, mutual: Security, smear: Path
) -> None:
    with (
        Detector(guarded, security=mutual) as detector,
        pytest.raises(ServerError, match=rf"wants another key \(Security.api_key\).*{KEY_HEADER}"),
    ):
        detector.detect(smear)


@pytest.mark.parametrize(
    ("ca", "says"), [("stranger.pem", "signer is not trusted"), ("ca.pem", "no Triton server")]
)
def test_without_the_right_certificates_there_is_no_connection(
    guarded: str, files: Path, smear: Path, ca: str, says: str
) -> None:
    with (
        Detector(guarded, security=Security(ca=files / ca)) as detector,
        pytest.raises(ServerUnavailable, match=says),
    ):
        detector.detect(smear)


def test_without_tls_there_is_no_connection(guarded: str, smear: Path) -> None:
    with Detector(guarded.removeprefix("grpcs://")) as detector, pytest.raises(ServerUnavailable):
        detector.detect(smear)


def test_a_server_without_tls_is_told_apart(server: EmbeddedServer, files: Path) -> None:
    url = f"grpcs://{server.grpc_url}"
    security = Security(ca=files / "ca.pem")
    with (
        Detector(url, security=security) as detector,
        pytest.raises(ServerUnavailable, match="not speak TLS"),
    ):
        detector.detect(b"image")


# HTTPS: Triton leaves it to a proxy, which here passes all on.


@contextmanager
def tls_proxy(http_url: str, files: Path) -> Iterator[str]:
    """A proxy that wants a certificate of the authority, on a thread of its own."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files / "ca.pem")
    context.load_cert_chain(files / "server.pem", files / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    proxy = Proxy(http_url)
    port = asyncio.run_coroutine_threadsafe(proxy.start(context), loop).result(10)
    try:
        yield f"https://localhost:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Proxy:
    """Passes bytes on in both directions."""

    def __init__(self, target: str) -> None:
        self._host, self._port = target.split(":")
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, context: ssl.SSLContext) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        there, back = await asyncio.open_connection(self._host, self._port)
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        finally:
            back.close()
            writer.close()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(2**16):
            target.write(data)
            await target.drain()
        target.close()


def test_https_with_certificates_gives_the_same_result(
    server: EmbeddedServer, files: Path, mutual: Security, smear: Path
) -> None:
    with tls_proxy(server.http_url, files) as url, Detector(url, security=mutual) as detector:
        result = detector.detect(smear)
        assert result.server == url
    with Detector(server.grpc_url) as detector:
        assert detector.detect(smear) == result


@pytest.mark.parametrize(
    ("ca", "says"),
    [("stranger.pem", "signer is not trusted"), ("ca.pem", "wants a certificate|broke off")],
)
def test_https_without_the_right_certificates_is_told(
    server: EmbeddedServer, files: Path, smear: Path, ca: str, says: str
) -> None:
    security = Security(ca=files / ca)
    with (
        tls_proxy(server.http_url, files) as url,
        Detector(url, security=security) as detector,
        pytest.raises(ServerUnavailable, match=says),
    ):
        detector.detect(smear)


def test_a_http_server_without_tls_is_told_apart(server: EmbeddedServer) -> None:
    with (
        Detector(f"https://{server.http_url}") as detector,
        # How it answers a handshake; seldom, on a busy machine, it ends it before it began.
        pytest.raises(ServerUnavailable, match=r"broke off|no connection could be made"),
    ):
        detector.detect(b"image")
