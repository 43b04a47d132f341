"""As much of S3's protocol as Triton uses, for whoever knows the key."""

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from serving.store.address import open_store
from serving.store.mirror import Mirror
from serving.store.s3_gateway import S3Gateway

FILES = {"ssd/config.pbtxt": b"name", "ssd/1/model.onnx": bytes(range(256)), "top/a & b": b""}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def gateway(repository: Path, tmp_path: Path) -> Iterator[S3Gateway]:
    mirror = Mirror(open_store(repository), tmp_path / "mirror", lambda line: None)
    mirror.update()
    running = S3Gateway(mirror)
    yield running
    running.close()


def client(gateway: S3Gateway, key: str) -> Any:
    """Amazon's own client."""
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{gateway.server_port}",
        aws_access_key_id=key,
        aws_secret_access_key="unused",
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


def names(gateway: S3Gateway, prefix: str = "models/") -> list[str]:
    """What a list holds."""
    listed = client(gateway, gateway.key).list_objects_v2(Bucket="repository", Prefix=prefix)
    return [one["Key"].removeprefix("models/") for one in listed.get("Contents", [])]


def test_lists_and_objects(gateway: S3Gateway, repository: Path) -> None:
    s3 = client(gateway, gateway.key)
    s3.head_bucket(Bucket="repository")
    assert names(gateway) == sorted(FILES)
    assert names(gateway, "models/ssd/1/") == ["ssd/1/model.onnx"]
    assert names(gateway, "models/nothing/") == []
    for name, data in FILES.items():
        found = s3.get_object(Bucket="repository", Key=f"models/{name}")
        assert found["Body"].read() == data
        head = s3.head_object(Bucket="repository", Key=f"models/{name}")
        assert head["ContentLength"] == len(data)
        assert head["LastModified"] == found["LastModified"]


@pytest.mark.parametrize("key", ["models/nothing", "models/../models/ssd/config.pbtxt", "other"])
def test_what_is_not_there(gateway: S3Gateway, key: str) -> None:
    with pytest.raises(ClientError, match=r"NoSuchKey|404"):
        client(gateway, gateway.key).get_object(Bucket="repository", Key=key)


def test_strangers_read_nothing(gateway: S3Gateway) -> None:
    stranger = client(gateway, "testing")
    for ask in (stranger.list_objects_v2, stranger.head_bucket):
        with pytest.raises(ClientError, match="403"):
            ask(Bucket="repository")
    with pytest.raises(ClientError, match="403"):
        stranger.get_object(Bucket="repository", Key="models/ssd/config.pbtxt")
    connection = http.client.HTTPConnection("127.0.0.1", gateway.server_port)
    connection.request("GET", "/repository/models/ssd/config.pbtxt")
    assert connection.getresponse().status == 403
    connection.close()


def test_a_list_is_of_this_moment(gateway: S3Gateway, repository: Path) -> None:
    (repository / "new").mkdir()
    (repository / "new" / "file").touch()
    (repository / "ssd" / "config.pbtxt").unlink()
    assert names(gateway) == ["new/file", "ssd/1/model.onnx", "top/a & b"]


def test_a_slow_store_keeps_the_client_waiting_but_not_in_silence(
    gateway: S3Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton's client gives up after 3 seconds without a byte."""
    go_on = threading.Event()
    monkeypatch.setattr(gateway.mirror, "update", go_on.wait)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.server_port, timeout=20)
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={gateway.key}/today"}
    connection.request("GET", "/repository?list-type=2&prefix=models/", headers=headers)
    answer = connection.getresponse()
    assert answer.read(64).strip() == b""
    go_on.set()
    assert answer.read().strip().startswith(b"<ListBucketResult")
    connection.close()
