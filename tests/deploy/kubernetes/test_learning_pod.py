"""The CronJob of the learning loop: what it would run is what `learning run` takes."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import tyro

from learning.settings import RunSettings
from tests.conftest import PROJECT
from tests.deploy.kubernetes.conftest import Helm, Objects, Render, find
from tests.deploy.kubernetes.test_chart import RELEASES
from tests.deploy.kubernetes.test_network import MONITORING, labels_of, lets_through, reaches

NIGHTLY = {
    "learning__schedule": "0 2 * * *",
    "learning__image": "r/learning:1",
    "learning__claim": "photos",
    "repository__claim": "models",
}


def job_of(objects: Objects) -> dict[str, Any]:
    return dict(find(objects, "CronJob", "ssd-learning")["spec"]["jobTemplate"]["spec"])


def container_of(objects: Objects) -> dict[str, Any]:
    [one] = job_of(objects)["template"]["spec"]["containers"]
    return dict(one)


def settings_of(one: dict[str, Any]) -> RunSettings:
    words = [*one["command"], *one.get("args", [])]
    assert words[:4] == ["python", "-m", "learning", "run"]
    return tyro.cli(RunSettings, args=words[4:])


def test_it_learns_from_its_volume_and_releases_to_every_server(render: Render) -> None:
    options = "{--new=50,--prometheus=http://p:9090}"
    objects = render(**NIGHTLY, learning__arguments=options)
    one = container_of(objects)
    settings = settings_of(one)
    assert settings.repository == "/repository/models"
    assert settings.url == "dns:ssd-triton:8001"
    assert (settings.new, settings.prometheus) == (50, "http://p:9090")
    folders = {Path(settings.inbox), *settings.data, settings.test, settings.start, settings.output}
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in one["volumeMounts"]}
    assert {folder.parent for folder in folders} == {Path("/learning")}
    assert mounts["/learning"] is mounts["/repository"] is mounts["/tmp"] is False
    [key] = one["env"]
    assert key == {"name": "TRITON_ADMIN_KEY_FILE", "value": "/etc/ssd/admin/key"}
    assert mounts["/etc/ssd/admin"] is True
    for release in RELEASES:
        for each in objects:
            kubernetes_validate.validate(each, release, strict=True)


def test_its_inbox_may_be_a_bucket(render: Render) -> None:
    given = {"learning__arguments": "{--inbox=s3://photos/inbox}"}
    objects = render(**NIGHTLY, **given)
    assert settings_of(container_of(objects)).inbox == "s3://photos/inbox"
    own = labels_of(objects, "learning")
    assert lets_through(objects, "Egress", own, {}, "elsewhere", "443")
    assert not lets_through(render(**NIGHTLY), "Egress", own, {}, "elsewhere", "443")


def test_a_refusal_is_not_tried_again_and_a_lost_pod_is(render: Render) -> None:
    job = job_of(render(**NIGHTLY))
    refusal, disruption = job["podFailurePolicy"]["rules"]
    assert refusal["action"] == "FailJob"
    assert refusal["onExitCodes"]["values"] == [2, 3, 4]  # docs/learning.md
    assert refusal["onExitCodes"]["containerName"] == container_of(render(**NIGHTLY))["name"]
    assert disruption["action"] == "Ignore"
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # which that policy asks for
    assert (
        find(render(**NIGHTLY), "CronJob", "ssd-learning")["spec"]["concurrencyPolicy"] == "Forbid"
    )
    assert not [each for each in render() if each["kind"] == "CronJob"]


def test_it_reaches_servers_and_prometheus_and_nobody_reaches_it(render: Render) -> None:
    objects = render(**NIGHTLY)
    own = labels_of(objects, "learning")
    assert reaches(objects, "learning", "triton", "grpc")
    assert not reaches(objects, "learning", "triton", "http")
    assert lets_through(objects, "Egress", own, {}, MONITORING, "9090")
    assert not lets_through(objects, "Egress", own, {}, "elsewhere", "9090")
    assert not reaches(objects, "stranger", "learning", "grpc")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("learning.claim=", "build deploy/docker/learning.Dockerfile, push it"),
        ("learning.image=", "set learning.image and learning.claim, too"),
        ("repository.claim=", "the learning loop needs a repository that it can write to"),
        ("learning.schedule=nightly", "at '/learning/schedule': 'nightly' does not match pattern"),
    ],
)
def test_what_is_missing_is_told(helm: Helm, wrong: str, message: str) -> None:
    values = {"triton.image": "r/t:1", "page.image": "r/a:1"}
    values |= {key.replace("__", "."): value for key, value in NIGHTLY.items()}
    sets = [f"--set={key}={value}" for key, value in values.items()]
    done = helm("template", "ssd", str(PROJECT / "deploy/kubernetes"), *sets, f"--set={wrong}")
    assert done.returncode == 1
    assert message in done.stderr


def test_the_values_of_the_page_are_taken(render: Render, tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "learning.md").read_text()
    [values] = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "learning.yaml").write_text(values)
    objects = render([tmp_path / "learning.yaml"], repository__claim="models")
    assert settings_of(container_of(objects)).new == 50
