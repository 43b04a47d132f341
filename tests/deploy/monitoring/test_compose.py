"""The containers of --profile monitoring: closed like the others, provisioned, of one version."""

import re
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml

from serving.monitoring.drift import DriftSettings
from tests.conftest import PROJECT

FILE = PROJECT / "deploy" / "docker" / "compose.monitoring.yaml"
NAMES = ["prometheus", "alertmanager", "grafana"]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load(FILE.read_text())["services"])


def test_compose_takes_them_in_and_starts_them_only_when_asked(services: dict[str, Any]) -> None:
    whole = yaml.safe_load((PROJECT / "compose.yaml").read_text())
    assert whole["include"] == [str(FILE.relative_to(PROJECT))]
    assert list(services) == NAMES
    assert all(service["profiles"] == ["monitoring"] for service in services.values())


@pytest.mark.parametrize("name", NAMES)
def test_contains_the_service(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"] == 200
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", service["image"])  # one version, for ever
    assert service["healthcheck"]["test"][:2] == ["CMD", "wget"]


def test_drift_is_asked_where_it_listens() -> None:
    drift = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]["drift"]
    assert drift["profiles"] == ["monitoring"]
    assert drift["command"][:4] == ["python", "-m", "serving", "drift"]
    settings = tyro.cli(DriftSettings, args=drift["command"][4:])
    jobs = yaml.safe_load((PROJECT / "deploy/monitoring/docker/prometheus.yml").read_text())
    [job] = [each for each in jobs["scrape_configs"] if each["job_name"] == "drift"]
    assert job["dns_sd_configs"][0]["port"] == settings.metrics_port
    assert settings.metrics_address == "0.0.0.0"  # another container asks
    folder = drift["volumes"][0]["target"]
    assert settings.repository == f"${{TRITON_MODEL_REPOSITORY:-{folder}}}"


@pytest.mark.parametrize("name", NAMES)
def test_reads_what_is_there_and_writes_where_there_is_an_end(
    services: dict[str, Any], name: str
) -> None:
    for volume in services[name]["volumes"]:
        if volume["type"] == "bind":
            assert volume["read_only"] is True
            assert (FILE.parent / volume["source"]).exists()
        elif volume["type"] == "tmpfs":
            assert volume["tmpfs"]["size"]
    assert "--storage.tsdb.retention.size=4GB" in services["prometheus"]["command"]


def test_nobody_can_log_in_to_grafana(services: dict[str, Any]) -> None:
    settings = services["grafana"]["environment"]
    assert settings["GF_AUTH_BASIC_ENABLED"] == "false"
    assert settings["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert settings["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_each_finds_what_it_is_told_to_read(services: dict[str, Any]) -> None:
    assert seen(services, "prometheus", services["prometheus"]["command"][0]).is_file()
    assert seen(services, "alertmanager", services["alertmanager"]["command"][0]).is_file()
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert seen(services, "grafana", home).is_file()
    [provider] = read_provisioned(services, "dashboards/ssd.yaml")["providers"]
    assert seen(services, "grafana", provider["options"]["path"]).is_dir()


def test_grafana_asks_the_prometheus_that_the_dashboard_means(services: dict[str, Any]) -> None:
    [source] = read_provisioned(services, "datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    text = (PROJECT / "deploy/monitoring/grafana/dashboards/ssd.json").read_text()
    assert set(re.findall(r'"uid": ?"([\w-]+)"', text)) == {source["uid"], "ssd-on-triton"}


def seen(services: dict[str, Any], name: str, path: str) -> Path:
    """A file here, by its path in the container."""
    place = Path(path.rpartition("=")[2])
    for volume in services[name]["volumes"]:
        if volume["type"] == "bind" and place.is_relative_to(volume["target"]):
            return FILE.parent / volume["source"] / place.relative_to(volume["target"])
    pytest.fail(f"{path} is in no volume")


def read_provisioned(services: dict[str, Any], name: str) -> Any:
    file = seen(services, "grafana", f"/etc/grafana/provisioning/{name}")
    return yaml.safe_load(file.read_text())
