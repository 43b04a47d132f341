"""A gateway that wants certificates and keys, and what tests do with it."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path
from types import MappingProxyType

from client import Security
from serving.fleet.gateway import Gateway
from tests.conftest import wait_until
from tests.serving.fleet.conftest import Recorder

OLD = "old-key-0123456789"


@dataclass
class Guarded:
    """A gateway that wants certificates and keys: gRPC to a real server, HTTP to a recorder."""

    folder: Path
    gateway: Gateway
    recorder: Recorder
    told: list[str] = field(default_factory=list)

    def security(self, name: str = "client", ca: str = "ca.pem", api_key: str = OLD) -> Security:
        folder = self.folder
        return Security(
            ca=folder / ca,
            certificate=folder / f"{name}.pem",
            key=folder / f"{name}.key",
            api_key=api_key,
        )

    def connect(self, security: Security | None = None) -> closing[HTTPSConnection]:
        context = (security or self.security()).context()
        return closing(HTTPSConnection(self.gateway.url, context=context, timeout=30))

    def ask(
        self,
        path: str,
        key: str = OLD,
        security: Security | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> int:
        with self.connect(security) as connection:
            return ask(connection, path, key, headers)[0]

    @contextmanager
    def exchanged(self, **files: str) -> Iterator[None]:
        """Other contents for files, dots of their names written as underscores."""
        paths = {self.folder / name.replace("_", "."): text for name, text in files.items()}
        before = {path: path.read_text() for path in paths}
        write_all(paths)
        try:
            yield
        finally:
            count = len(self.told)
            write_all(before)
            wait_until(lambda: any("is taken" in line for line in self.told[count:]))

    def wait_for(self, words: str) -> None:
        wait_until(lambda: any(words in line for line in self.told))


def write_all(files: dict[Path, str]) -> None:
    for path, text in files.items():
        path.write_text(text)


def ask(
    connection: HTTPSConnection,
    path: str,
    key: str,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> tuple[int, bytes]:
    sent = {"x-api-key": key} if key else {}
    connection.request("GET", path, headers={**sent, **headers})
    answer = connection.getresponse()
    return answer.status, answer.read()
