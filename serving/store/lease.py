"""A lock in an object store, made with If-None-Match and renewed with If-Match."""

import json
import threading
import time
import uuid
from typing import Any

from obstore.exceptions import AlreadyExistsError, PreconditionError

from client.bucket.clock import boot_time
from serving.errors import BusyError, MissingFileError, StoreError
from serving.store.base import describe_busy, describe_owner
from serving.store.bucket import Bucket

LEASE = 30.0  # seconds after which a lock that is not renewed belongs to nobody
RENEW = 5.0  # seconds between two renewals
TRUSTED = LEASE - 10  # seconds after the last renewal during which its owner relies on it
LOCK = ".lock"


class Lease:
    """A lock in an object store: the object `.lock`, which its owner renews again and again.

    Whoever wants it while it exists watches whether its tag changes. No clocks are compared, so
    they may differ.
    """

    def __init__(self, bucket: Bucket, purpose: str) -> None:
        self._bucket = bucket
        self._owner = json.loads(describe_owner(purpose))
        self._tag: str | None = None
        self._renewed = 0.0
        self._lost = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def acquire(self) -> None:
        """Take it if it is free, or if its owner is dead: that takes LEASE seconds to know.

        Raises:
            BusyError: its owner lives.
        """
        while True:
            began = boot_time()
            try:
                self._tag = self._put("create")
                break
            except AlreadyExistsError:
                tag = self._wait_for_owner()
            began = boot_time()
            if tag is None:  # it was freed meanwhile
                continue
            try:
                self._tag = self._put({"e_tag": tag})
                break
            except PreconditionError:  # another one was faster
                continue
        self._renewed = began
        self._thread.start()

    def is_held(self) -> bool:
        """Whether nobody else can have taken it."""
        return not self._lost and boot_time() - self._renewed < TRUSTED

    def release(self) -> None:
        """Give it back, unless it was lost."""
        self._over.set()
        self._thread.join()
        if not self.is_held():
            return
        try:
            self._bucket.delete([LOCK])
        except StoreError:
            return  # then it runs out

    def _put(self, mode: Any) -> str | None:
        """Write the object with a content that was never there before. Returns its tag."""
        self._owner["renewal"] = uuid.uuid4().hex
        data = json.dumps(self._owner).encode()
        return self._bucket.put_new(LOCK, data, mode)

    def _wait_for_owner(self) -> str | None:
        """Wait until the owner counts as dead. Returns the tag, None if the lock was given back.

        Raises:
            BusyError: the owner renewed it.
        """
        first, began = None, boot_time()
        while first is None or boot_time() - began < LEASE:
            try:
                tag, owner = self._bucket.get(LOCK)
            except MissingFileError:
                return None
            if first not in (None, tag):
                raise BusyError(describe_busy(self._bucket.address, owner))
            first = tag
            time.sleep(0.5)
        return first

    def _renew(self) -> None:
        """Renew it until it is given back or lost. What was not renewed in time stays lost."""
        while not self._over.wait(RENEW):
            if not self.is_held():
                return
            began = boot_time()
            try:
                self._tag = self._put({"e_tag": self._tag})
                self._renewed = began
            except (PreconditionError, MissingFileError):
                self._lost = True
                return
            except StoreError:
                continue  # `is_held` sees how old the last one is
