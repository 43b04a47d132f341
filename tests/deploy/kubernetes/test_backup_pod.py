"""The CronJob of backups: what it would run is what `serving backup` takes."""

from typing import Any

import kubernetes_validate
import pytest
import tyro

from serving.release.backup import BackupSettings
from tests.conftest import PROJECT
from tests.deploy.kubernetes.conftest import Helm, Objects, Render, find
from tests.deploy.kubernetes.test_chart import RELEASES
from tests.deploy.kubernetes.test_network import reaches

NIGHTLY = {
    "backup__schedule": "0 1 * * *",
    "backup__target": "s3://backups/ssd",
    "release__image": "r/serving:1",
    "repository__address": "s3://bucket/models",
    "repository__credentialsSecret": "bucket",
}


def pod_of(objects: Objects) -> dict[str, Any]:
    job = find(objects, "CronJob", "ssd-backup")["spec"]["jobTemplate"]["spec"]
    return dict(job["template"]["spec"])


def settings_of(objects: Objects) -> BackupSettings:
    [one] = pod_of(objects)["containers"]
    assert one["command"][:4] == ["python", "-m", "serving", "backup"]
    return tyro.cli(BackupSettings, args=one["command"][4:])


def mounts_of(objects: Objects) -> dict[str, bool]:
    [one] = pod_of(objects)["containers"]
    return {mount["mountPath"]: mount.get("readOnly", False) for mount in one["volumeMounts"]}


def test_a_bucket_is_copied_to_another(render: Render) -> None:
    objects = render(**NIGHTLY, backup__keep=3)
    expected = BackupSettings("s3://bucket/models", "s3://backups/ssd", keep=3)
    assert settings_of(objects) == expected
    assert mounts_of(objects) == {"/tmp": False, "/etc/ssd/bucket": True}
    assert not reaches(objects, "backup", "triton", "grpc")
    assert not reaches(objects, "stranger", "backup", "grpc")
    for release in RELEASES:
        for each in objects:
            kubernetes_validate.validate(each, release, strict=True)


def test_volumes_are_copied_to_a_volume_and_the_inbox_with_them(render: Render) -> None:
    values = {"repository__address": "", "repository__claim": "models", "backup__target": ""}
    inbox = {"learning__claim": "photos", "backup__inbox": "/learning/inbox"}
    values |= {"repository__credentialsSecret": "", "backup__claim": "backups"}
    objects = render(**(NIGHTLY | values | inbox))
    expected = BackupSettings("/repository/models", "/backups/ssd", inbox="/learning/inbox")
    assert settings_of(objects) == expected
    mounts = {"/tmp": False, "/backups": False, "/learning": True, "/repository": False}
    assert mounts_of(objects) == mounts
    names = {volume["name"] for volume in pod_of(objects)["volumes"]}
    assert names == {"tmp", "backups", "learning", "models"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("release.image=", "release.image is not set, and"),
        ("backup.target=", "set backup.target, the address of a bucket, or backup.claim"),
        ("backup.claim=both", "set backup.target, the address of a bucket, or backup.claim"),
        ("backup.inbox=/learning/inbox", "set learning.claim, too"),
        ("backup.target=backups", "at '/backup/target': 'backups' does not match pattern"),
        ("repository.address=", "but the models lie in the image"),
        ("backup.keep=0", "at '/backup/keep': minimum: got 0, want 1"),
    ],
)
def test_what_is_missing_is_told(helm: Helm, wrong: str, message: str) -> None:
    values = {"triton.image": "r/t:1", "page.image": "r/a:1", "repository.preflight": "false"}
    values |= {key.replace("__", "."): value for key, value in NIGHTLY.items()}
    sets = [f"--set={key}={value}" for key, value in values.items()]
    done = helm("template", "ssd", str(PROJECT / "deploy/kubernetes"), *sets, f"--set={wrong}")
    assert done.returncode == 1
    assert message in done.stderr
