"""The last known files of a repository, in a folder of this machine."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from serving import lines
from serving.backoff import Backoff
from serving.errors import StoreError
from serving.store.base import Store

AWAY_PATIENCE = 2.0  # seconds that nobody waits longer for a store that was away last


class Mirror:
    """The files of a store in a local folder, as they were when the store was last there.

    Args:
        store: what is copied.
        folder: for it alone, on the same file system as its parent; made if it does not exist.
        report: takes a line when the store goes away, and when it is back.
        patience: seconds that a check may take, for a disk that hangs; None: as long as it takes.
        seconds: between two checks; while the store is away, the longest of growing pauses.
        checked: called after each check.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        report: Callable[[str], None],
        patience: float | None = None,
        seconds: float = 30.0,
        checked: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        self.files: Mapping[str, str] = {}  # each one's stamp, by its path
        self.away = False  # the store, at the last check
        self._store = store
        self._report = report
        self._patience = patience
        self._seconds = seconds
        self._checked = checked
        self._pauses = Backoff(seconds)
        self._hurried = False
        self._time = 0  # of the last change, in whole seconds
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(
            target=self._check_again_and_again, name="mirror", daemon=True
        )

    def start(self) -> None:
        """Begin to check the store from time to time."""
        self._thread.start()

    def close(self) -> None:
        """End the checks, and write nothing more."""
        self._over.set()
        self._wake.set()
        if self._lock.acquire(timeout=AWAY_PATIENCE):
            self._lock.release()

    def refresh(self) -> None:
        """Check now. A store that was away last is not waited for until it is given up."""
        if self.away and self._lock.locked():  # a check that nobody waits for any more
            return
        check = threading.Thread(target=self._check, name="check", daemon=True)
        check.start()
        check.join(AWAY_PATIENCE if self.away or self._hurried else self._patience)
        if check.is_alive() and not self.away:
            self._set_away("it does not answer")

    @contextmanager
    def hurry(self) -> Iterator[None]:
        """Inside, no store is waited for long: what is here already will do."""
        self._hurried = True
        try:
            yield
        finally:
            self._hurried = False

    def update(self) -> None:
        """Bring the copy up to date.

        Raises:
            StoreError: the store is away. The copy is what it was.
        """
        now = self._store.files(hidden=True)
        if not now and self.files:  # a folder that is not mounted is seen so
            raise StoreError(f"{self._store.address} is gone or empty")
        changed = [path for path, stamp in now.items() if self.files.get(path) != stamp]
        fresh = self._fetch(changed)
        for path in changed:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (fresh / path).replace(self.folder / path)
        gone, self.files = self.files.keys() - now.keys(), now
        for path in gone:
            (self.folder / path).unlink(missing_ok=True)

    def _fetch(self, paths: list[str]) -> Path:
        """Fetch files to a place where nobody reads them yet."""
        fresh = self.folder.with_name(f"{self.folder.name}-fresh")
        shutil.rmtree(fresh, ignore_errors=True)
        if paths:  # Triton sees by the time, in whole seconds, that something changed
            self._time = max(self._time + 1, int(time.time()))
        for path in paths:
            data = self._store.read(path)
            if self._over.is_set():
                raise StoreError("the server has ended")
            (fresh / path).parent.mkdir(parents=True, exist_ok=True)
            (fresh / path).write_bytes(data)
            os.utime(fresh / path, (self._time, self._time))
        return fresh

    def _check_again_and_again(self) -> None:
        while not self._over.is_set():
            self._wake.wait(self._pauses.pause() if self.away else self._seconds)
            self._wake.clear()
            self._check()

    def _check(self) -> None:
        with self._lock:
            if self._over.is_set():
                return
            try:
                self.update()
                trouble = ""
            except (StoreError, OSError) as error:
                trouble = str(error)
            if not self._over.is_set():  # else it was the end that ended the check
                self._set_away(trouble)

    def _set_away(self, trouble: str) -> None:
        """After a check: the store is away for this reason, or there if it is empty."""
        changed, self.away = bool(trouble) != self.away, bool(trouble)
        self._checked()
        if changed:
            address = self._store.address
            last = f"going on with the last copy of {address}: {trouble}"
            self._report(lines.warning(last) if trouble else f"{address} is there again")
            self._pauses.reset()
            self._wake.set()  # the pauses between two checks are others now
