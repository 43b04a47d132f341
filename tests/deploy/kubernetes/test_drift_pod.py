"""The drift exporter's pod: its command is run, and judges what a real Prometheus remembers."""

import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import tyro

from serving.monitoring.drift import DriftSettings
from tests.conftest import PROJECT
from tests.deploy.kubernetes.conftest import Helm, Render, container, find, pod
from tests.deploy.kubernetes.test_chart import RELEASES
from tests.deploy.kubernetes.test_custom_resources import THERE
from tests.deploy.kubernetes.test_network import MONITORING, labels_of, lets_through, reaches
from tests.serving.conftest import copy_repository
from tests.serving.monitoring.past import (
    Past,
    draw_photos,
    record_reference,
    reference_of,
    remembering,
)
from tests.serving.monitoring.test_exporter import gauges

ENABLED = {"drift__enabled": "true"}
CLAIM = ENABLED | {"repository__claim": "models"}


def settings_of(one: dict[str, Any]) -> DriftSettings:
    assert one["command"][:4] == ["python", "-m", "serving", "drift"]
    return tyro.cli(DriftSettings, args=one["command"][4:])


def test_it_judges_the_photos_of_its_own_release(render: Render, tmp_path: Path) -> None:
    """Another release's photos in the same Prometheus are the usual ones: only its own moved."""
    copy_repository(tmp_path / "models")
    record_reference(tmp_path / "models", reference_of(draw_photos(0, 87)))
    past = Past()
    past.add_photos(draw_photos(1, 400, 121), namespace="default", service="ssd-triton")
    past.add_photos(draw_photos(2, 4000), namespace="default", service="other-triton")
    with remembering(tmp_path / "prometheus", past) as url:
        one = container(render(**CLAIM, autoscaling__prometheus=url), "ssd-drift")
        words = [word.replace("/repository", str(tmp_path)) for word in one["command"]]
        words[words.index("--metrics-address") + 1] = "127.0.0.1"
        words[words.index("--metrics-port") + 1] = "0"
        command = [sys.executable, *words[1:]]
        with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            place = process.stdout.readline().split()[1]
            with urllib.request.urlopen(place, timeout=60) as answer:
                found = gauges(answer.read().decode())
            process.terminate()
    assert process.returncode == 0
    assert found["ssd_drift_judged", "", ""] == 1
    assert found["ssd_drift_moved", "image_brightness", ""] == 1
    assert found["ssd_drift_images", "", ""] <= 400


@pytest.mark.parametrize("values", [ENABLED, CLAIM, {"repository__address": "s3://b/c"} | ENABLED])
def test_it_reads_the_models_that_are_served(render: Render, values: dict[str, str]) -> None:
    objects = render(**values)
    settings = settings_of(container(objects, "ssd-drift"))
    expected = "/repository/models" if "repository__claim" in values else "model_repository"
    assert settings.repository == values.get("repository__address", expected)
    if expected == settings.repository == "model_repository":  # of its image's working folder
        dockerfile = (PROJECT / "deploy" / "docker" / "serving.Dockerfile").read_text()
        assert "WORKDIR /app\n" in dockerfile
        assert "COPY model_repository model_repository\n" in dockerfile
    [one] = pod(objects, "ssd-drift")["containers"]
    mounts = {mount["name"]: mount.get("readOnly", False) for mount in one["volumeMounts"]}
    assert mounts == {"tmp": False} | ({"models": True} if values is CLAIM else {})
    for release in RELEASES:
        for each in objects:
            kubernetes_validate.validate(each, release, strict=True)


def test_the_operators_prometheus_finds_it(render: Render) -> None:
    objects = render(options=THERE, monitoring__enabled="true", **ENABLED)
    settings = settings_of(container(objects, "ssd-drift"))
    [port] = container(objects, "ssd-drift")["ports"]
    assert port == {"name": "metrics", "containerPort": settings.metrics_port}
    assert settings.metrics_address == "0.0.0.0"
    assert settings.selector == 'namespace="default",service="ssd-triton"'
    monitor = find(objects, "ServiceMonitor", "ssd-drift")["spec"]
    assert monitor["endpoints"][0]["interval"] == "1m"
    service = find(objects, "Service", "ssd-drift")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"]["app.kubernetes.io/component"] == "drift"  # the job
    labels = find(objects, "Deployment", "ssd-drift")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    other = render(options=THERE, monitoring__enabled="true")
    assert not [each for each in other if each["metadata"]["name"] == "ssd-drift"]


def test_it_reaches_prometheus_and_nobody_else_reaches_it(render: Render) -> None:
    objects = render(**CLAIM)
    own = labels_of(objects, "drift")
    assert lets_through(objects, "Egress", own, {}, MONITORING, "9090")
    assert not lets_through(objects, "Egress", own, {}, "elsewhere", "9090")
    assert reaches(objects, "prometheus", "drift", "metrics", where=MONITORING)
    assert not reaches(objects, "stranger", "drift", "metrics")
    for target in ("triton", "gateway"):
        assert not reaches(objects, "drift", target, "grpc")


def test_without_its_image_it_says_so(helm: Helm) -> None:
    chart = str(PROJECT / "deploy" / "kubernetes")
    wrong = ["--set=triton.image=r/triton:1", "--set=drift.enabled=true"]
    done = helm("template", "ssd", chart, *wrong)
    assert done.returncode == 1
    assert "release.image is not set, and drift.enabled needs it" in done.stderr
    done = helm("template", "ssd", chart, *wrong, "--set=release.image=r/s:1,drift.window=1 h")
    assert "at '/drift/window': '1 h' does not match pattern" in done.stderr
