"""One bucket or a part of it, through obstore: its client, whose errors become sentences.

S3 and what speaks its protocol, Google, Azure. One PUT is atomic.
"""

import configparser
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from client.bucket.address import Place
from client.errors import BucketError, MissingObject

CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN where it is needed, or the "
    "file AWS_SHARED_CREDENTIALS_FILE, and AWS_DEFAULT_REGION",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "as": "AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY",
}
KEY_FILES = ("AWS_SHARED_CREDENTIALS_FILE", "GOOGLE_APPLICATION_CREDENTIALS")
KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
PATIENCE = 15  # seconds until a store that is away or does not answer is given up, at most
CONNECT_SECONDS = 4  # each is tried twice
ANSWER_SECONDS = 6
SLOWEST_UPLOAD = 2**20  # bytes per second; an upload may take that much longer


class Bucket:
    """The objects under an address.

    Args:
        address: as the user wrote it, for messages.
        place: what it says.

    Attributes:
        failed: what every method raises.
        missing: what is raised where there is no such object, a kind of `failed`.
    """

    failed: ClassVar[type[Exception]] = BucketError
    missing: ClassVar[type[Exception]] = MissingObject

    def __init__(self, address: str, place: Place) -> None:
        self.address = address
        self._place = place
        self._stamp = _stamp_credentials()
        self._connected = self._connect()

    @property
    def _client(self) -> Any:
        """The client of the keys as they are now: their file may be renewed while this runs."""
        stamp = _stamp_credentials()
        if stamp != self._stamp:
            self._connected, self._stamp = self._connect(), stamp
        return self._connected

    def stamps(self) -> dict[str, str]:
        """Each object's path, and its tag or else its time."""
        return {path: stamp for path, _, stamp in self.entries()}

    def entries(self) -> Iterator[tuple[str, int, str]]:
        """Each object's path, its bytes, and its tag or else its time; a page is held at a time."""
        for one in self.objects():
            yield one["path"], one["size"], one["e_tag"] or f"{one['last_modified']}"

    def objects(
        self, folder: str | None = None, beginning: str = ""
    ) -> Iterator[Mapping[str, Any]]:
        """What the store says of each object, by its path; a page is held at a time.

        Args:
            folder: only of those in it.
            beginning: only of those whose path in the folder begins so.
        """
        first = f"{folder}/{beginning}" if folder else beginning
        with self._translate_errors():
            options: Any = {"prefix": folder, "offset": first or None, "chunk_size": 1000}
            for page in obstore.list(self._client, **options):
                for one in page:
                    if one["path"].startswith(first):
                        yield one
                    elif one["path"] > first:  # they come in this order
                        return

    def get(self, path: str) -> tuple[str | None, bytes]:
        """An object's tag and content."""
        with self._translate_errors(path):
            result = obstore.get(self._client, path)
            return result.meta["e_tag"], bytes(result.bytes())

    def modified(self, path: str) -> datetime:
        """When an object was written, in UTC, in whole seconds."""
        with self._translate_errors(path):
            return obstore.head(self._client, path)["last_modified"]

    def put(self, path: str, data: bytes, mode: Any = "overwrite") -> str | None:
        """One atomic PUT. Returns the new object's tag.

        Args:
            path: of the object.
            data: its content.
            mode: "create" if it must not exist, {"e_tag": tag} if it must still have this tag.

        Raises:
            AlreadyExistsError: it exists.
            PreconditionError: it has another tag.
        """
        # The client's limit for an answer counts from the upload's first byte.
        seconds = ANSWER_SECONDS + len(data) // SLOWEST_UPLOAD
        client = self._client if seconds == ANSWER_SECONDS else self._connect(seconds)
        with self._translate_errors():
            return obstore.put(client, path, data, mode=mode, use_multipart=False)["e_tag"]

    def put_new(self, path: str, data: bytes, mode: Any) -> str | None:
        """The same of a content that was never there before.

        Where the answer got lost and the client has tried again, what it finds is its own.
        """
        try:
            return self.put(path, data, mode)
        except (AlreadyExistsError, PreconditionError):
            with suppress(self.missing):
                tag, found = self.get(path)
                if found == data:
                    return tag
            raise

    def copy(self, source: str, target: str) -> None:
        """Make another object of the same content, without sending it."""
        with self._translate_errors(source):
            obstore.copy(self._client, source, target)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects."""
        with self._translate_errors():
            obstore.delete(self._client, paths)

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
        with self._translate_errors():
            if place.kind == "gs":
                return GCSStore(place.bucket, **common)
            if place.kind == "as":
                key = os.environ.get("AZURE_STORAGE_KEY")
                account = {"account_name": place.account} | ({"account_key": key} if key else {})
                return AzureStore(place.bucket, config=account, **common)  # type: ignore[arg-type]
            common["config"] = self._read_aws_file()
            if place.host:
                endpoint = (place.scheme or "http://") + place.host
                common["config"] |= {"endpoint": endpoint, "aws_endpoint_url_s3": endpoint}
            return S3Store(place.bucket, **common)

    @contextmanager
    def _translate_errors(self, path: str = "") -> Iterator[None]:
        """Make sentences of the client's errors; `path` is what may be missing."""
        try:
            yield
        except (AlreadyExistsError, PreconditionError, self.failed):
            raise
        except (BaseError, OSError, ValueError) as error:
            raise self._explain(error, path) from None

    def _explain(self, error: Exception, path: str) -> Exception:
        text, bucket, where = str(error), self._place.bucket, self._where()
        credentials = CREDENTIALS[self._place.kind]
        if "NoSuchBucket" in text:
            return self.failed(
                f"{where} has no bucket {bucket}: make it, or correct the address {self.address}"
            )
        if isinstance(error, FileNotFoundError):
            return self.missing(f"{self.address} has no {path}")
        if "169.254.169.254" in text or "metadata.google.internal" in text:
            return self.failed(f"no credentials for {self.address}: set {credentials}")
        denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        if denied or re.search(r"status code: 40[13]", text):
            return self.failed(
                f"{where} denies access to {self.address} ({_find_cause(text)}): check "
                f"{credentials}, and what they may do in the bucket {bucket}"
            )
        if "kind: Timeout" in text:
            return self.failed(
                f"{where} does not answer within {ANSWER_SECONDS} s, tried twice: is it overloaded "
                f"or no object store? The address was {self.address}"
            )
        if "kind: Connect" in text:
            return self.failed(
                f"{where} cannot be reached: is it running, and are host, port, and http or https "
                f"right in {self.address}?"
            )
        if "region" in text:
            return self.failed(f"{bucket} lies in another region: set AWS_DEFAULT_REGION to it")
        return self.failed(f"{where} failed over {self.address}: {_find_cause(text)}")

    def _read_aws_file(self) -> dict[str, str]:
        """The keys in Amazon's own file, which obstore does not read; none where others are set."""
        file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
        if not file or "AWS_ACCESS_KEY_ID" in os.environ:
            return {}
        profile = os.environ.get("AWS_PROFILE", "default")
        parsed = configparser.ConfigParser(interpolation=None)
        try:
            parsed.read_string(Path(file).read_text(encoding="utf-8"))
            return {name: value for name, value in parsed[profile].items() if name in KEYS}
        except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as error:
            raise self.failed(
                f"AWS_SHARED_CREDENTIALS_FILE is {file}, where [{profile}] with aws_access_key_id "
                f"and aws_secret_access_key is expected: {_first_line(error)}"
            ) from None

    def _where(self) -> str:
        """The server, for the begin of a sentence."""
        names = {"s3": "Amazon S3", "gs": "Google Cloud Storage", "as": "Azure Storage"}
        return f"the store {self._place.host}" if self._place.host else names[self._place.kind]


def _stamp_credentials() -> list[tuple[int, int]]:
    """Time and size of the files that hold keys."""
    files = filter(None, map(os.environ.get, KEY_FILES))
    known = [Path(file).stat() for file in files if Path(file).exists()]
    return [(each.st_mtime_ns, each.st_size) for each in known]


def _find_cause(text: str) -> str:
    """The one thing to know of a client's error, which runs over many lines."""
    if code := re.search(r"<Code>(\w+)</Code>", text):
        return code[1]
    if status := re.search(r"status code: (\d+ [A-Za-z ]+)", text):  # a HEAD has no body
        return status[1]
    first = text.split("\n\nDebug source")[0].splitlines()[0]
    return first.rsplit(" - ", 1)[-1][:200]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
