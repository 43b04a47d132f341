"""Whose turn it is to change an inbox in a bucket: a lock of seconds, made with If-None-Match.

No clocks are compared, so those of several machines may differ. `serving.store.lease` is the lock
of releases, which take minutes: who finds that one taken is sent away, here one waits.
"""

import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from obstore.exceptions import AlreadyExistsError, PreconditionError

from client.bucket.bucket import Bucket
from client.bucket.clock import boot_time
from client.errors import BucketError, MissingObject

LOCK = ".lock"
LEASE = 30.0  # seconds after which a lock that is not renewed belongs to nobody
# Seconds after which it is renewed before a change: so its last one ends, or is given up, before
# somebody else's begins (`bucket.PATIENCE`, and an answer that comes late).
FRESH = 5.0
WAIT = 120.0  # seconds that somebody else may take, with all who come before
PAUSE = 0.05, 0.25  # seconds between two looks, at random lest all look at once


class Turn:
    """The object `.lock`. Threads may share it."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._thread = threading.Lock()
        self._owner: int | None = None
        self._tag: str | None = None
        self._renewed = 0.0

    def is_mine(self) -> bool:
        """Whether this thread holds it."""
        return self._owner == threading.get_ident()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Wait until it is free, or until its owner counts as dead, and hold it.

        Raises:
            BucketError: others take too long, or the bucket is away.
        """
        with self._thread:
            self._acquire()
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = None
                self._release()

    def renew(self) -> None:
        """See to it that the lock, where this thread holds it, lasts until one more change is made.

        Raises:
            BucketError: somebody else has it, for this program was too slow.
        """
        if self.is_mine() and boot_time() - self._renewed > FRESH:
            self._renew()

    def lost(self) -> BucketError:
        """What is to be said when others have gone on."""
        return BucketError(
            f"{self._bucket.address} was too slow, or this program was, and others have gone on: "
            "nothing more was changed; try again"
        )

    def _renew(self) -> None:
        if not self._put({"e_tag": self._tag}):
            raise self.lost()

    def _acquire(self) -> None:
        until = boot_time() + WAIT
        mode: Any = "create"
        while not self._put(mode):
            tag = self._watch(until)
            mode = "create" if tag is None else {"e_tag": tag}

    def _watch(self, until: float) -> str | None:
        """Wait until it is free, which is None, or until its owner has died: that one's tag."""
        seen, since = "", boot_time()
        while (tag := self._find_tag()) is not None:
            if tag != seen:
                seen, since = tag, boot_time()
            elif boot_time() - since > LEASE:
                return tag
            if boot_time() > until:
                raise BucketError(
                    f"{self._bucket.address} was in use by others for {WAIT:.0f} s: try again"
                )
            time.sleep(random.uniform(*PAUSE))
        return None

    def _find_tag(self) -> str | None:
        try:
            return self._bucket.get(LOCK)[0]
        except MissingObject:
            return None

    def _put(self, mode: Any) -> bool:
        """Write it with a content that was never there before; whether that was possible."""
        began = boot_time()
        try:
            self._tag = self._bucket.put_new(LOCK, uuid.uuid4().hex.encode(), mode)
        except (AlreadyExistsError, PreconditionError, MissingObject):
            return False
        self._renewed = began
        return True

    def _release(self) -> None:
        """Give it back, unless it is somebody else's; what cannot be given back runs out."""
        with suppress(BucketError):
            if boot_time() - self._renewed > FRESH:
                self._renew()
            self._bucket.delete([LOCK])
