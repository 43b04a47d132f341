"""A model repository in a bucket: S3 and what speaks its protocol, Google, Azure."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from google.protobuf import text_format
from obstore.exceptions import AlreadyExistsError
from tritonclient.grpc import model_config_pb2

from client.bucket.address import Place
from serving.errors import MissingFileError, StoreError
from serving.store import lease
from serving.store.base import CONFIG, Store, is_config, is_in_repository, is_under
from serving.store.bucket import Bucket
from serving.store.lease import Lease


class ObjectStore(Store):
    """A repository in a bucket.

    Writers need the store to honour If-None-Match and If-Match with PUT, as Amazon's does.
    """

    def __init__(self, address: str, place: Place) -> None:
        self.address = address
        self.triton_address = address.rstrip("/")
        self._bucket = Bucket(address, place)
        self._lease: Lease | None = None

    def files(self, hidden: bool = False) -> dict[str, str]:
        """See Store; the stamp is the object's tag."""
        stamps = self._bucket.stamps()
        return {path: stamp for path, stamp in stamps.items() if is_in_repository(path, hidden)}

    def read(self, path: str) -> bytes:
        """See Store."""
        return self._bucket.get(path)[1]

    def modified(self, path: str) -> datetime:
        """See Store."""
        return self._bucket.modified(path)

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
        order = sorted(
            filter(lambda name: is_in_repository(name, True), names),
            key=lambda n: _upload_rank(names[n]),
        )
        self._refuse_existing(order[-1])
        for name in order[:-1]:
            self._put(name, names[name].read_bytes())
        self._put_new(order[-1], names[order[-1]].read_bytes())

    def remove(self, folder: str) -> None:
        """See Store. What makes it count goes first."""
        self._check_lease()
        inside = [path for path in self._bucket.stamps() if is_under(path, folder)]
        for part in (
            [path for path in inside if path.endswith(f"/{CONFIG}")],
            [path for path in inside if not path.endswith(f"/{CONFIG}")],
        ):
            if part:
                self._bucket.delete(part)

    def clean(self) -> None:
        """See Store. Nothing to do: what is half there counts for nothing and is overwritten."""

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """See Store. It holds as long as it is renewed."""
        held = Lease(self._bucket, purpose)
        held.acquire()
        self._lease = held
        try:
            yield
        finally:
            self._lease = None
            held.release()

    def _check_lease(self) -> None:
        if self._lease is not None and not self._lease.is_held():
            raise StoreError(
                f"the lock of {self.address} was lost, because the store could not be reached for "
                f"{lease.TRUSTED:.0f} s or somebody removed it: nothing more was changed; try again"
            )

    def _put(self, path: str, data: bytes) -> None:
        self._check_lease()
        self._bucket.put(path, data)

    def _put_new(self, path: str, data: bytes) -> None:
        """A PUT that replaces nothing."""
        self._check_lease()
        try:
            self._bucket.put_new(path, data, "create")
        except AlreadyExistsError:
            self._refuse(path)

    def _refuse_existing(self, path: str) -> None:
        if self._written(path) is not None:
            self._refuse(path)

    def _refuse(self, path: str) -> NoReturn:
        raise StoreError(f"{self.address.rstrip('/')}/{path} exists already")


def _upload_rank(path: Path) -> int:
    """When a file of a new repository is uploaded: 0 first, ensembles last."""
    return 0 if path.name != CONFIG else 2 if _is_ensemble(path.read_bytes()) else 1


def _is_ensemble(config: bytes) -> bool:
    """Whether a config.pbtxt makes an ensemble."""
    parsed = text_format.Parse(config, model_config_pb2.ModelConfig(), allow_unknown_field=True)
    return bool(parsed.platform == "ensemble" or parsed.ensemble_scheduling.step)
