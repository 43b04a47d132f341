"""The Jobs and `helm test`: what they run is run, against a real server and a store that denies."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.server.server import EmbeddedServer, ServerSettings
from tests.conftest import PROJECT
from tests.deploy.kubernetes.conftest import Render, container, find, pod
from tests.serving.store.refusing import refusing_store
from tests.serving.tiny_network import LABELS, write_artifact

PUBLISHING = {
    "repository__claim": "models",
    "release__name": "first",
    "release__claim": "artifacts",
    "release__artifact": "mine/int8",
}


def execute(
    one: dict[str, Any], places: dict[str, str], **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a container's command with its variables; what the pod has elsewhere lies in `places`."""
    words = [*one["command"], *one.get("args", [])]
    given = {each["name"]: each["value"] for each in one["env"]}
    for there, here in places.items():
        words = [word.replace(there, here) for word in words]
        given = {name: value.replace(there, here) for name, value in given.items()}
    assert words[0] == "python"
    inherited = {name: value for name, value in os.environ.items() if "TRITON" not in name}
    return subprocess.run(
        [sys.executable, *words[1:]],
        env=inherited | given | variables,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_publishes_to_every_server_and_compares_them(render: Render, tmp_path: Path) -> None:
    """The first version into an empty volume, the second into the server that serves it."""
    artifact = write_artifact(tmp_path / "artifact", LABELS)
    quick = {"release__arguments": "{--no-private-server,--slowdown=1000}"}
    (tmp_path / "volume").mkdir()
    (tmp_path / "key").write_text("k" * 32 + "\n")
    places = {
        "/artifacts/mine/int8": str(artifact),
        "/repository": str(tmp_path / "volume"),
        "/etc/ssd/admin/key": str(tmp_path / "key"),
    }
    first = render(**PUBLISHING, **quick, release__first="true")
    done = execute(container(first, "ssd-publish-first", "Job"), places)
    assert done.returncode == 0, done.stderr
    release = pod(render(**PUBLISHING, **quick), "ssd-publish-first", "Job")
    [publish], [compare] = release["initContainers"], release["containers"]
    models = tmp_path / "volume" / "models"
    with EmbeddedServer(ServerSettings(repository=models, admin_key="k" * 32)) as served:
        places["dns:ssd-triton:8001"] = f"dns:{served.grpc_url}"
        done = execute(publish, places)
        assert done.returncode == 0, done.stderr
        assert "version 2 is live" in done.stdout
        done = execute(compare, places)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "skew" not in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"artifact", "volume", "key"}


def test_the_doctor_finds_nothing_wrong(render: Render, server: EmbeddedServer) -> None:
    doctor = find(render(), "Pod", "ssd-doctor")
    assert doctor["metadata"]["annotations"]["helm.sh/hook"] == "test"
    [one] = doctor["spec"]["containers"]
    done = execute(one | {"env": []}, {"ssd:8001": server.grpc_url})
    assert done.returncode == 0, done.stdout
    assert "wrong: nothing" in done.stdout


def test_where_no_server_is_ready_it_says_so(render: Render, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k" * 16)
    places = {
        "/repository/models": str(PROJECT / "model_repository"),
        "/etc/ssd/admin/key": str(tmp_path / "key"),
        "dns:ssd-triton:8001": "dns:ssd-triton.invalid:8001",
    }
    one = container(render(**PUBLISHING), "ssd-publish-first", "Job")
    done = execute(one, places)
    assert done.returncode == 1
    assert "no address is known of it" in done.stderr


def test_a_bucket_that_denies_is_told_before_anything_is_applied(
    render: Render, tmp_path: Path
) -> None:
    """The hook, of which Helm prints the output where it fails."""
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = a\naws_secret_access_key = b\n"
    )
    with refusing_store(403, "AccessDenied") as host:
        values = {
            "repository__address": f"s3://{host}/bucket/models",
            "repository__credentialsSecret": "keys",
        }
        job = find(render(**values), "Job", "ssd-preflight")
        one = job["spec"]["template"]["spec"]["containers"][0]
        done = execute(one, {"/etc/ssd/bucket/credentials": str(tmp_path / "credentials")})
    assert done.returncode == 1
    assert f"{host} denies access" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    notes = job["metadata"]["annotations"]
    assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert notes["helm.sh/hook-output-log-policy"] == "hook-failed"


@pytest.mark.parametrize(
    ("values", "hook"),
    [
        (
            {"serviceAccount__create": "false", "serviceAccount__name": "m"},
            "pre-install,pre-upgrade",
        ),
        ({}, "pre-upgrade"),  # the account that it would have is made with everything else
    ],
)
def test_the_bucket_is_asked_by_who_the_pods_are(
    render: Render, values: dict[str, str], hook: str
) -> None:
    objects = render(repository__address="s3://bucket/models", **values)
    job = find(objects, "Job", "ssd-preflight")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == hook
    accounts = [pod(objects, "ssd-preflight", "Job"), pod(objects, "ssd-triton")]
    assert len({each["serviceAccountName"] for each in accounts}) == 1


def test_a_release_runs_once_for_its_name(render: Render) -> None:
    spec = find(render(**PUBLISHING), "Job", "ssd-publish-first")["spec"]
    assert spec["backoffLimit"] == 0
    assert "ttlSecondsAfterFinished" not in spec
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    again = render(**(PUBLISHING | {"release__name": "second"}))
    assert find(again, "Job", "ssd-publish-second")
    assert not [each for each in render() if each["kind"] == "Job"]
