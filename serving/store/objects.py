"""A model repository in a bucket, through obstore: S3 and what speaks its protocol, Google, Azure.

One PUT is atomic. The lock is an object too, made with If-None-Match and renewed with If-Match.
"""

import json
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import obstore
from google.protobuf import text_format
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store
from tritonclient.grpc import model_config_pb2

from serving.errors import BusyError, MissingFileError, StoreError
from serving.store.base import (
    CONFIG,
    Store,
    counts,
    describe_busy,
    describe_owner,
    is_config,
    is_under,
)

CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN where it is needed, and "
    "AWS_DEFAULT_REGION",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "as": "AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY",
}
PATIENCE = 15  # seconds until a store that is away or does not answer is given up, at most
CONNECT_SECONDS = 4  # each is tried twice
ANSWER_SECONDS = 6
SLOWEST_UPLOAD = 2**20  # bytes per second; an upload may take that much longer
LEASE = 30.0  # seconds after which a lock that is not renewed belongs to nobody
RENEW = 5.0  # seconds between two renewals
TRUSTED = LEASE - 10  # seconds after the last renewal during which its owner relies on it
LOCK = ".lock"


@dataclass(frozen=True)
class Place:
    """What an address says."""

    kind: str  # s3, gs or as
    bucket: str
    prefix: str | None = None
    scheme: str | None = None  # http:// or https:// of an S3 server that is not Amazon's
    host: str | None = None  # with its port
    account: str | None = None  # Azure's


class ObjectStore(Store):
    """A repository in a bucket.

    Writers need the store to honour If-None-Match and If-Match with PUT, as Amazon's does.
    """

    def __init__(self, address: str, place: Place) -> None:
        self.address = address
        self.triton_address = address.rstrip("/")
        self._place = place
        self._store = self._connect()
        self._lease: Lease | None = None

    def files(self, hidden: bool = False) -> dict[str, str]:
        """See Store; the stamp is the object's tag."""
        with self._told():
            listed = obstore.list(self._store).collect()
        found = {str(one["path"]): one["e_tag"] or f"{one['last_modified']}" for one in listed}
        return {path: stamp for path, stamp in found.items() if counts(path, hidden)}

    def read(self, path: str) -> bytes:
        """See Store."""
        with self._told(path):
            return bytes(obstore.get(self._store, path).bytes())

    def modified(self, path: str) -> datetime:
        """See Store."""
        with self._told(path):
            return obstore.head(self._store, path)["last_modified"]

    def write(self, path: str, data: bytes) -> None:
        """See Store. A configuration is never replaced within the second in which it was written.

        Triton tells by an object's time, which is in whole seconds, whether to load it again.
        """
        before = self._written(path) if is_config(path) else None
        self._put(path, data)
        if before is not None and self._written(path) == before:
            time.sleep(1.0)
            self._put(path, data)

    def _written(self, path: str) -> datetime | None:
        try:
            return self.modified(path)
        except MissingFileError:
            return None

    def place(self, folder: str, files: Mapping[str, bytes]) -> None:
        """See Store. Of several files config.pbtxt, else the last one, makes the folder count."""
        *first, last = sorted(files, key=lambda name: name == CONFIG)
        self._refuse_existing(f"{folder}/{last}")
        for name in first:
            self._put(f"{folder}/{name}", files[name])
        self._put_new(f"{folder}/{last}", files[last])

    def create(self, source: Path) -> None:
        """See Store."""
        paths = [path for path in sorted(source.rglob("*")) if path.is_file()]
        names = {path.relative_to(source).as_posix(): path for path in paths}
        order = sorted(filter(lambda name: counts(name, True), names), key=lambda n: rank(names[n]))
        self._refuse_existing(order[-1])
        for name in order[:-1]:
            self._put(name, names[name].read_bytes())
        self._put_new(order[-1], names[order[-1]].read_bytes())

    def remove(self, folder: str) -> None:
        """See Store. What makes it count goes first."""
        self._check_lease()
        with self._told():
            every = [str(one["path"]) for one in obstore.list(self._store).collect()]
            inside = [path for path in every if is_under(path, folder)]
            for part in (
                [path for path in inside if path.endswith(f"/{CONFIG}")],
                [path for path in inside if not path.endswith(f"/{CONFIG}")],
            ):
                if part:
                    obstore.delete(self._store, part)

    def clean(self) -> None:
        """See Store. Nothing to do: what is half there counts for nothing and is overwritten."""

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """See Store. It holds as long as it is renewed."""
        lease = Lease(self, purpose)
        with self._told():
            lease.acquire()
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None
            lease.release()

    def _check_lease(self) -> None:
        if self._lease is not None and not self._lease.is_held():
            raise StoreError(
                f"the lock of {self.address} was lost, because the store could not be reached for "
                f"{TRUSTED:.0f} s or somebody removed it: nothing more was changed; try again"
            )

    def _put(self, path: str, data: bytes, mode: Any = "overwrite") -> str | None:
        """One atomic PUT. Returns the new object's tag."""
        self._check_lease()
        # The client's limit for an answer counts from the upload's first byte.
        seconds = ANSWER_SECONDS + len(data) // SLOWEST_UPLOAD
        store = self._store if seconds == ANSWER_SECONDS else self._connect(seconds)
        with self._told():
            return obstore.put(store, path, data, mode=mode, use_multipart=False)["e_tag"]

    def _put_new(self, path: str, data: bytes) -> None:
        """A PUT that replaces nothing. One whose answer got lost is repeated, and finds itself."""
        try:
            self._put(path, data, mode="create")
        except AlreadyExistsError:
            if self.read(path) != data:
                self._refuse(path)

    def _refuse_existing(self, path: str) -> None:
        if self._written(path) is not None:
            self._refuse(path)

    def _refuse(self, path: str) -> NoReturn:
        raise StoreError(f"{self.address.rstrip('/')}/{path} exists already")

    def _connect(self, answer_seconds: int = ANSWER_SECONDS) -> Any:
        """A client. Building one opens no connection."""
        place = self._place
        common: dict[str, Any] = {
            "prefix": place.prefix or None,
            "client_options": {
                "connect_timeout": f"{CONNECT_SECONDS}s",
                "read_timeout": f"{answer_seconds}s",
                "timeout": "1h",
                "allow_http": True,
            },
            "retry_config": {"max_retries": 1, "retry_timeout": timedelta(seconds=PATIENCE)},
        }
        with self._told():
            if place.kind == "gs":
                return GCSStore(place.bucket, **common)
            if place.kind == "as":
                key = os.environ.get("AZURE_STORAGE_KEY")
                account = {"account_name": place.account} | ({"account_key": key} if key else {})
                return AzureStore(place.bucket, config=account, **common)  # type: ignore[arg-type]
            if place.host:
                endpoint = (place.scheme or "http://") + place.host
                common["config"] = {"endpoint": endpoint, "aws_endpoint_url_s3": endpoint}
            return S3Store(place.bucket, **common)

    @contextmanager
    def _told(self, path: str = "") -> Iterator[None]:
        """Turn the client's errors into sentences; `path` is what may be missing."""
        try:
            yield
        except (AlreadyExistsError, PreconditionError):
            raise
        except (BaseError, OSError, ValueError) as error:
            raise self._explain(error, path) from None

    def _explain(self, error: Exception, path: str) -> StoreError:
        text, bucket, where = str(error), self._place.bucket, self._where()
        credentials = CREDENTIALS[self._place.kind]
        if "NoSuchBucket" in text:
            return StoreError(
                f"{where} has no bucket {bucket}: make it, or correct the address {self.address}"
            )
        if isinstance(error, FileNotFoundError):
            return MissingFileError(f"{self.address} has no {path}")
        if "169.254.169.254" in text or "metadata.google.internal" in text:
            return StoreError(f"no credentials for {self.address}: set {credentials}")
        denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        if denied or re.search(r"status code: 40[13]", text):
            return StoreError(
                f"{where} denies access to {self.address} ({gist(text)}): check {credentials}, and "
                f"what they may do in the bucket {bucket}"
            )
        if "kind: Timeout" in text:
            return StoreError(
                f"{where} does not answer within {ANSWER_SECONDS} s, tried twice: is it overloaded "
                f"or no object store? The address was {self.address}"
            )
        if "kind: Connect" in text:
            return StoreError(
                f"{where} cannot be reached: is it running, and are host, port, and http or https "
                f"right in {self.address}?"
            )
        if "region" in text:
            return StoreError(f"{bucket} lies in another region: set AWS_DEFAULT_REGION to it")
        return StoreError(f"{where} failed over {self.address}: {gist(text)}")

    def _where(self) -> str:
        """The server, for the begin of a sentence."""
        names = {"s3": "Amazon S3", "gs": "Google Cloud Storage", "as": "Azure Storage"}
        return f"the store {self._place.host}" if self._place.host else names[self._place.kind]


class Lease:
    """A lock in an object store: the object `.lock`, which its owner renews again and again.

    Whoever wants it while it exists watches whether its tag changes. No clocks are compared, so
    they may differ.
    """

    def __init__(self, store: ObjectStore, purpose: str) -> None:
        self._store = store
        self._owner = json.loads(describe_owner(purpose))
        self._tag: str | None = None
        self._renewed = 0.0
        self._lost = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def acquire(self) -> None:
        """Take it if it is free, or if its owner is dead: that takes LEASE seconds to know.

        Raises:
            BusyError: its owner lives.
        """
        while True:
            began = now()
            try:
                self._tag = self._put("create")
                break
            except AlreadyExistsError:
                tag = self._watch()
            began = now()
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
        return not self._lost and now() - self._renewed < TRUSTED

    def release(self) -> None:
        """Give it back, unless it was lost."""
        self._over.set()
        self._thread.join()
        if not self.is_held():
            return
        try:
            obstore.delete(self._store._store, LOCK)
        except (BaseError, OSError):
            return  # then it runs out

    def _put(self, mode: Any) -> str | None:
        """Write the object with a content that was never there before. Returns its tag."""
        self._owner["renewal"] = uuid.uuid4().hex
        data = json.dumps(self._owner).encode()
        try:
            return self._store._put(LOCK, data, mode)
        except (AlreadyExistsError, PreconditionError):
            tag, found = self._look()
            if found == data:  # it was ours; the answer got lost, and the client tried again
                return tag
            raise

    def _look(self) -> tuple[str | None, bytes]:
        with self._store._told(LOCK):
            result = obstore.get(self._store._store, LOCK)
            return result.meta["e_tag"], bytes(result.bytes())

    def _watch(self) -> str | None:
        """Wait until the owner counts as dead. Returns the tag, None if the lock was given back.

        Raises:
            BusyError: the owner renewed it.
        """
        first, began = None, now()
        while first is None or now() - began < LEASE:
            try:
                tag, owner = self._look()
            except MissingFileError:
                return None
            if first not in (None, tag):
                raise BusyError(describe_busy(self._store.address, owner))
            first = tag
            time.sleep(0.5)
        return first

    def _keep(self) -> None:
        """Renew it until it is given back or lost."""
        while not self._over.wait(RENEW):
            began = now()
            try:
                self._tag = self._put({"e_tag": self._tag})
                self._renewed = began
            except (PreconditionError, MissingFileError):
                self._lost = True
                return
            except StoreError:
                continue  # `is_held` sees how old the last one is


def rank(path: Path) -> int:
    """When a file of a new repository is uploaded: 0 first, ensembles last."""
    return 0 if path.name != CONFIG else 2 if is_ensemble(path.read_bytes()) else 1


def is_ensemble(config: bytes) -> bool:
    """Whether a config.pbtxt makes an ensemble."""
    parsed = text_format.Parse(config, model_config_pb2.ModelConfig(), allow_unknown_field=True)
    return bool(parsed.platform == "ensemble" or parsed.ensemble_scheduling.step)


def now() -> float:
    """Seconds that pass while the machine sleeps, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def gist(text: str) -> str:
    """The one thing to know of a client's error, which runs over many lines."""
    if code := re.search(r"<Code>(\w+)</Code>", text):
        return code[1]
    if status := re.search(r"status code: (\d+ [A-Za-z ]+)", text):  # a HEAD has no body
        return status[1]
    first = text.split("\n\nDebug source")[0].splitlines()[0]
    return first.rsplit(" - ", 1)[-1][:200]
