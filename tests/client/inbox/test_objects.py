"""An inbox in a bucket: whose turn it is, what a killed writer leaves, what is said of failures.

Writers are killed by what ends their thread at a request and refuses every one after it, as a kill
does. One is killed for real.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

import obstore
import pytest

from client import InvalidParameter
from client.errors import BucketError
from client.inbox import inbox as inbox_module
from client.inbox import turn
from client.inbox.address import open_storage
from client.inbox.inbox import Inbox, InboxError
from client.inbox.photo import image_id
from client.inbox.samples import Samples
from tests.client.inbox.test_samples import found, photo
from tests.serving.store.refusing import refusing_store

FILE = PurePosixPath("Annotations/a.xml")


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner counts as dead at once."""
    monkeypatch.setattr(turn, "LEASE", 0.1)
    monkeypatch.setattr(turn, "PAUSE", (0.02, 0.05))


class Killed(BaseException):
    """What a killed program does not live to see."""


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """Nothing is written from that request on, counted from 1."""
    steps = iter(range(1, 1000))

    def mortal(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(steps) >= step:
                raise Killed
            return function(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("put", "copy", "delete"):
            patch.setattr(obstore, name, mortal(getattr(obstore, name)))
        yield


def test_who_wants_it_waits_until_it_is_free(s3: str) -> None:
    order: list[str] = []

    def work(name: str) -> None:
        storage = open_storage(s3)  # as of another machine
        for _ in range(3):
            with storage.lock():
                order.append(f"{name} begins")
                time.sleep(0.02)
                order.append(f"{name} ends")

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(order) == 12
    for begins, ends in zip(order[::2], order[1::2], strict=True):
        assert (begins[2:], ends) == ("begins", f"{begins[0]} ends")
    assert not open_storage(s3).find(PurePosixPath(turn.LOCK))


def test_who_waits_too_long_is_told(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "WAIT", 0.1)
    told = pytest.raises(BucketError, match="was in use by others for 0 s: try again")
    with open_storage(s3).lock(), told, open_storage(s3).lock():
        pass


@pytest.mark.usefixtures("_impatient")
def test_who_was_stopped_for_too_long_changes_nothing_more(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "FRESH", 0.0)
    slow, quick = open_storage(s3), open_storage(s3)
    with slow.lock():
        assert slow.find(FILE) is None
        with quick.lock():  # the other one counts as dead
            quick.place(FILE, b"of the quick one")
            for change in (lambda: slow.place(FILE, b"late"), lambda: slow.remove(FILE)):
                with pytest.raises(BucketError, match="others have gone on: nothing more was"):
                    change()
        assert quick.find(FILE) == b"of the quick one"


@pytest.mark.usefixtures("_impatient")
def test_not_even_what_was_on_its_way_overwrites_others_work(s3: str) -> None:
    """Between its last look at the lock and the request itself, too."""
    slow, quick = open_storage(s3), open_storage(s3)
    for before in (None, b"of the quick one"):
        with slow.lock():  # which is fresh enough for `slow` to trust it
            assert slow.find(FILE) == before
            with quick.lock():
                quick.place(FILE, b"of the quick one" if before is None else b"once more")
            with pytest.raises(BucketError, match="others have gone on"):
                slow.place(FILE, b"late")
    assert quick.find(FILE) == b"once more"


@pytest.mark.usefixtures("_impatient")
def test_at_whichever_request_a_writer_is_killed_nothing_half_counts(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "STALE", -60)  # what is alone is swept away at once
    for step in range(1, 10):
        inbox = Inbox(s3)
        try:
            with killed_at(step):
                Samples(inbox, 5).offer(photo(0), found(0.5), str)
        except Killed:
            again = Inbox(s3)
            names = again.samples()
            images = again.storage.entries(again.proposals.images)
            assert [each.path.stem for each in images] == names  # photo and boxes, or neither
            for name in names:
                again.proposals.remove(name)
            continue
        assert step == 5  # lock, photo, annotation, unlock
        assert len(inbox.samples()) == 1
        return
    pytest.fail("it was never through")


WRITER = """
import os, signal, sys
import obstore
from client import Box, Detection, Result
from client.inbox.inbox import Inbox
from client.inbox.samples import Samples
inbox, put = Inbox(sys.argv[1]), obstore.put
def put_and_die(client, path, *arguments, **options):
    answer = put(client, path, *arguments, **options)
    if "JPEGImages" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
obstore.put = put_and_die
found = Result((Detection("RBC", 0, 0.5, Box(4, 6, 20, 30)),), 64, 48)
Samples(inbox, 5).offer(sys.stdin.buffer.read(), found, str)
"""


@pytest.mark.usefixtures("_impatient")
def test_a_writer_that_is_killed_between_photo_and_boxes_leaves_the_turn_to_others(s3: str) -> None:
    command = [sys.executable, "-c", WRITER, s3]
    done = subprocess.run(command, input=photo(0), capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    inbox = Inbox(s3)
    assert inbox.samples() == []
    assert len(inbox.storage.entries(inbox.proposals.images)) == 1  # not counted, swept away later
    assert Samples(inbox, 5).offer(photo(0), found(0.5), str)
    assert len(inbox.samples()) == len(inbox.storage.entries(inbox.proposals.images)) == 1


def test_two_writers_of_samples_keep_no_more_than_one_would(s3: str) -> None:
    def work(seeds: range) -> None:
        samples = Samples(Inbox(s3), 3)
        for seed in seeds:
            samples.offer(photo(seed), found(0.9 - seed / 20), str)

    unsure = ((5, "000490"), (6, "000640"), (7, "000810"))
    threads = [threading.Thread(target=work, args=(range(k, 8, 2),)) for k in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    inbox = Inbox(s3)
    assert inbox.samples() == [f"{image_id(photo(k))}-unsure{u}" for k, u in unsure]
    assert len(inbox.storage.entries(inbox.proposals.images)) == 3


def test_a_bucket_that_cannot_be_used_is_a_sentence(s3: str) -> None:
    nobody = f"{s3.rsplit('/', 2)[0]}/nobody/inbox"
    with pytest.raises(InboxError, match="has no bucket nobody: make it, or correct the address"):
        Inbox(nobody)
    denied = pytest.raises(InboxError, match=r"denies access to .* AWS_ACCESS_KEY_ID")
    with refusing_store(403, "AccessDenied") as address, denied:
        Inbox(f"s3://{address}/bucket/inbox")
    with pytest.raises(InvalidParameter, match="is no address of a folder or bucket: expected s3:"):
        Inbox("s3://")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("client.inbox.objects", "client.inbox.turn", "client.bucket.bucket"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(InvalidParameter, match=r"buckets need a package more .*: pip install obst"):
        Inbox("s3://bucket/inbox")
