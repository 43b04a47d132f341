import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.bucket.bucket import PATIENCE
from serving.errors import BusyError, MissingFileError, ServingError, StoreError
from serving.store import lease
from serving.store.address import open_store
from serving.store.base import Store
from serving.store.folder import FolderStore
from serving.store.objects import ObjectStore
from tests.conftest import SmallDisk, wait_until
from tests.serving.store.refusing import Refusing, refusing_store

CONFIG = b'name: "ensemble"\nplatform: "ensemble"\n'


@pytest.fixture(params=["folder", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where no repository is yet."""
    if request.param == "folder":
        return str(tmp_path / "there" / "models")
    return str(request.getfixturevalue("s3"))


@pytest.fixture
def store(address: str) -> Store:
    """A store without a repository."""
    return open_store(address)


def test_nothing(store: Store, address: str) -> None:
    assert store.address == store.triton_address == address
    assert store.files() == {}
    store.remove("ssd/1")
    with pytest.raises(MissingFileError, match=r"models has no releases\.json"):
        store.read("releases.json")
    with pytest.raises(MissingFileError, match=r"models has no releases\.json"):
        store.modified("releases.json")


def test_files(store: Store) -> None:
    store.write("ensemble/config.pbtxt", CONFIG)
    store.write("ensemble/1/.keep", b"")
    store.write("ensemble/1/__pycache__/model.pyc", b"")
    store.write(".lock", b"")
    store.write("releases.json", b"{}")
    first = store.files()
    assert sorted(first) == ["ensemble/config.pbtxt", "releases.json"]
    assert sorted(store.files(hidden=True)) == [
        "ensemble/1/.keep",
        "ensemble/config.pbtxt",
        "releases.json",
    ]
    store.write("releases.json", b"[]")
    second = store.files()
    assert first["ensemble/config.pbtxt"] == second["ensemble/config.pbtxt"]
    assert first["releases.json"] != second["releases.json"]
    assert store.read("releases.json") == b"[]"
    age = datetime.now(UTC) - store.modified("releases.json")
    assert timedelta(seconds=-2) < age < timedelta(seconds=60)


@pytest.mark.parametrize("size", [0, 9 * 2**20])
def test_one_file_of_any_size(store: Store, size: int) -> None:
    store.place("ssd/2", {"model.onnx": bytes(size)})
    assert len(store.read("ssd/2/model.onnx")) == size


def test_a_folder_is_placed_once(store: Store) -> None:
    files = {"config.pbtxt": CONFIG, "1/.keep": b""}
    store.place("ensemble_canary", files)
    assert sorted(store.files(hidden=True)) == [
        "ensemble_canary/1/.keep",
        "ensemble_canary/config.pbtxt",
    ]
    with pytest.raises(StoreError, match="exists already"):
        store.place("ensemble_canary", files | {"config.pbtxt": b"other"})
    assert store.read("ensemble_canary/config.pbtxt") == CONFIG
    store.remove("ensemble_canary")
    assert store.files(hidden=True) == {}


def test_two_writes_differ_in_their_time(store: Store) -> None:
    """Triton looks at nothing else, and in S3 a time is a whole second."""
    times = set()
    for number in range(3):
        store.write("ssd/config.pbtxt", b"%d" % number)
        times.add(store.modified("ssd/config.pbtxt"))
    assert len(times) == 3


def test_removing_takes_no_neighbour(store: Store) -> None:
    for name in ("ssd/1/model.onnx", "ssd/10/model.onnx", "ssd/config.pbtxt"):
        store.write(name, b"x")
    store.remove("ssd/1")
    assert sorted(store.files()) == ["ssd/10/model.onnx", "ssd/config.pbtxt"]


def test_create_and_fetch(store: Store, repository: Path, tmp_path: Path) -> None:
    store.create(repository)
    with pytest.raises(StoreError, match="exists already"):
        store.create(repository)
    store.fetch(tmp_path / "all")
    assert read_all(tmp_path / "all") == read_all(repository)
    store.fetch(tmp_path / "some", ["ssd/1", "ensemble"])
    assert sorted(read_all(tmp_path / "some")) == [
        "ensemble/1/.keep",
        "ensemble/config.pbtxt",
        "ssd/1/model.onnx",
    ]


def test_a_killed_creation_lacks_its_ensembles_and_is_completed(
    s3: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_put_new", die)
    with pytest.raises(KeyboardInterrupt):
        store.create(repository)
    assert "ensemble/config.pbtxt" not in store.files()
    monkeypatch.undo()
    open_store(s3).create(repository)
    assert set(store.files(hidden=True)) == set(read_all(repository))


def test_a_killed_placing_is_not_seen_and_cleaned(tmp_path: Path) -> None:
    store = FolderStore(str(tmp_path / "models"))
    for name in ("models", "models-2"):
        (tmp_path / f".publish-{name}-abc" / "new").mkdir(parents=True)
    assert store.files() == {}
    with store.lock("publish"):
        store.clean()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".publish-models-2-abc"]


def test_a_folder_store_tells_what_the_system_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file: "):
        open_store(tmp_path / "file" / "models").write("releases.json", b"")


def test_the_lock_excludes(store: Store, address: str) -> None:
    with store.lock("publish of version 7"):
        began = time.monotonic()
        with (
            pytest.raises(BusyError, match=r"@.* \(process \d+\) for publish of version 7 since 2"),
            open_store(address).lock("promote"),
        ):
            pass
        assert time.monotonic() - began < PATIENCE
        store.write("releases.json", b"{}")
    with open_store(address).lock("promote"):
        pass
    assert set(store.files(hidden=True)) == {"releases.json"}


def test_of_many_publishers_one_wins(address: str) -> None:
    start, winners = threading.Barrier(5), []

    def compete(number: int) -> None:
        start.wait()
        try:
            with open_store(address).lock("publish"):
                winners.append(number)
                finished.wait()
        except BusyError:
            pass

    finished = threading.Event()
    threads = [threading.Thread(target=compete, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    while sum(thread.is_alive() for thread in threads) > 1 and len(winners) < 2:
        time.sleep(0.05)
    finished.set()
    for thread in threads:
        thread.join()
    assert len(winners) == 1


HOLDER = """
import sys, time
from serving.store.address import open_store
with open_store(sys.argv[1]).lock("publish"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_killed_holder_loses_the_lock(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, address], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    monkeypatch.setattr(lease, "LEASE", 2.0)
    with open_store(address).lock("publish"):
        pass


def test_a_lost_lease_stops_its_owner(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW", 0.2)
    store = open_store(s3)
    with store.lock("publish"):
        time.sleep(1)
        store.write("releases.json", b"{}")
        open_store(s3).write(".lock", b"taken over")
        held = store._lease  # type: ignore[attr-defined]
        wait_until(lambda: not held.is_held())
        with pytest.raises(StoreError, match=r"lock .* was lost"):
            store.write("releases.json", b"[]")
        with pytest.raises(StoreError, match=r"lock .* was lost"):
            store.remove("ssd")
    assert store.read("releases.json") == b"{}"
    assert store.read(".lock") == b"taken over"


def test_a_frozen_owner_does_not_trust_its_lease(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(s3)
    with store.lock("publish"):
        monkeypatch.setattr(lease, "TRUSTED", 0.0)
        with pytest.raises(StoreError, match=r"lock .* was lost"):
            store.write("releases.json", b"[]")
        monkeypatch.undo()


@pytest.mark.parametrize(
    "address",
    [
        "s3://",
        "s3:/bucket/models",
        "s3://UPPER/models",
        "s3://host:80",
        "s3://https://bucket/models",
        "gs://",
        "as://account",
        "ftp://bucket/models",
    ],
)
def test_malformed_addresses(address: str) -> None:
    with pytest.raises(StoreError, match="is no address of a model repository: expected s3://"):
        open_store(address)


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket",
        "s3://bucket/a/b/",
        "s3://https://host.example:443/bucket/a",
        "s3://h:1/bucket",
    ],
)
def test_addresses_go_to_triton_as_they_are(address: str) -> None:
    store = open_store(address)
    assert isinstance(store, ObjectStore)
    assert store.triton_address == address.rstrip("/")


def test_google_and_azure_addresses_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    assert isinstance(open_store("gs://bucket/models"), ObjectStore)
    monkeypatch.setenv("AZURE_STORAGE_KEY", "a2V5")
    assert isinstance(open_store("as://account/container/models"), ObjectStore)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def refusing() -> Iterator[Callable[[int, str], str]]:
    """refusing(status, code) -> host and port of a server that answers so."""
    with ExitStack() as servers:
        yield lambda status, code: servers.enter_context(refusing_store(status, code))


def expect(address: str, sentence: str) -> None:
    """Whatever is tried there ends in time, in that one sentence."""
    store = open_store(address)
    actions: list[Callable[[], object]] = [
        store.files,
        lambda: store.read("releases.json"),
        lambda: store.write("releases.json", b"{}"),
        lambda: store.lock("publish").__enter__(),
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda action: expect_of(action, sentence), actions))


def expect_of(action: Callable[[], object], sentence: str) -> None:
    began = time.monotonic()
    with pytest.raises(StoreError, match=sentence) as caught:
        action()
    assert time.monotonic() - began < PATIENCE
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 350
    assert not isinstance(caught.value, MissingFileError)


@pytest.mark.usefixtures("moto_server")
def test_a_store_that_is_down() -> None:
    expect("s3://127.0.0.1:9/bucket/models", "the store 127.0.0.1:9 cannot be reached: is it runn")


@pytest.mark.usefixtures("moto_server")
def test_a_store_that_never_answers(silent: str) -> None:
    expect(f"s3://{silent}/bucket/models", f"{silent} does not answer within 6 s, tried twice")


def test_a_missing_bucket(moto_server: str) -> None:
    expect(f"s3://{moto_server}/nobody/models", f"{moto_server} has no bucket nobody: make it")


def test_http_where_https_is_asked_for(moto_server: str) -> None:
    expect(f"s3://https://{moto_server}/bucket/models", "cannot be reached: .* http or https right")


@pytest.mark.usefixtures("moto_server")
@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (403, "SignatureDoesNotMatch"), (401, "Denied")]
)
def test_denied_access(refusing: Callable[[int, str], str], status: int, code: str) -> None:
    host = refusing(status, code)
    sentence = (
        rf"{host} denies access to s3://{host}/bucket/models \(({code}|{status} \w+)\): check AWS"
    )
    expect(f"s3://{host}/bucket/models", sentence)


def test_keys_in_amazons_own_file(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    words = f"AWS_SHARED_CREDENTIALS_FILE is {file}, where .*default.* is expected: "
    expect_of(lambda: open_store(s3), f"{words}.*No such file")
    file.write_text("[other]\naws_access_key_id = a\naws_secret_access_key = b\n")
    expect_of(lambda: open_store(s3), f"{words}'default'")
    monkeypatch.setenv("AWS_PROFILE", "other")
    open_store(s3).write("releases.json", b"{}")
    assert open_store(s3).read("releases.json") == b"{}"


def test_keys_that_are_renewed_are_taken_by_a_store_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    file.write_text("[default]\naws_access_key_id = old\naws_secret_access_key = b\n")
    with refusing_store(403, "AccessDenied") as host:
        store = open_store(f"s3://{host}/bucket/models")
        for key in ("old", "renewed"):
            text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = b\n"
            (tmp_path / "new").write_text(text)
            (tmp_path / "new").replace(file)
            with pytest.raises(StoreError, match="denies access"):
                store.read("releases.json")
            assert f"Credential={key}/" in Refusing.authorization


@pytest.mark.usefixtures("moto_server")
def test_a_store_in_trouble(refusing: Callable[[int, str], str]) -> None:
    host = refusing(503, "SlowDown")
    expect(f"s3://{host}/bucket/models", "failed over s3://.*: (SlowDown|503 Service Unavailable)$")


def test_errors_are_this_packages() -> None:
    assert issubclass(StoreError, ServingError)
    assert issubclass(BusyError, StoreError)


def read_all(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_full_disk_leaves_the_repository_as_it_was(small_disk: SmallDisk) -> None:
    """Nothing half-written, and a sentence; for a file, a version and a whole repository."""
    store = FolderStore(str(small_disk.folder / "models"))
    store.write("releases.json", b"{}")
    store.place("ssd/1", {"model.onnx": bytes(10_000)})
    source = small_disk.folder.parent / "source"
    (source / "ssd").mkdir(parents=True)
    (source / "ssd" / "model.onnx").write_bytes(bytes(100_000))
    before = small_disk.contents()
    other = FolderStore(str(small_disk.folder / "other"))
    attempts: list[Callable[[], None]] = [
        lambda: store.write("releases.json", bytes(100_000)),
        lambda: store.place("ssd/2", {"small": b"1", "model.onnx": bytes(100_000)}),
        lambda: other.create(source),
    ]
    for attempt in attempts:
        small_disk.fill(left=20_000)
        with pytest.raises(StoreError, match="No space left on device"):
            attempt()
        assert small_disk.contents() == before
    small_disk.free()
    attempts[1]()
    assert sorted(store.files()) == [
        "releases.json",
        "ssd/1/model.onnx",
        "ssd/2/model.onnx",
        "ssd/2/small",
    ]
