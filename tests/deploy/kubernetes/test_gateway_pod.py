"""The gateway's pod: its files are what `serving gateway-files` writes.

A genuine Envoy is started by its command, asked as the kubelet asks, and ends as the pod ends.
"""

import http.client
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serving.fleet.configuration import BOOTSTRAP, ROUTES
from serving.fleet.envoy import find_envoy, validate
from serving.fleet.files import FilesSettings, write_gateway_files
from serving.server.prerequisites import choose_ports
from tests.conftest import wait_until
from tests.deploy.kubernetes.conftest import CHART, VALUES, Render, container, find, pod


def files_of(objects: list[dict[str, Any]]) -> dict[str, str]:
    return dict(find(objects, "ConfigMap", "ssd-gateway")["data"])


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ({}, {}),
        ({"triton__replicas": 1}, {"replicas": 1}),
        (  # the numbers that stand there before, the other way round
            {
                "triton__replicas": 1,
                "gateway__interactiveRequests": 12,
                "gateway__bulkRequests": 48,
            },
            {"replicas": 1, "interactive_requests": 12, "bulk_requests": 48},
        ),
    ],
)
def test_its_files_are_those_of_the_command(
    render: Render, tmp_path: Path, values: dict[str, Any], settings: dict[str, Any]
) -> None:
    write_gateway_files(FilesSettings(output=tmp_path, servers="ssd-triton", **settings))
    for name, text in files_of(render(**values)).items():
        assert text.strip() == (tmp_path / name).read_text().strip()


def test_its_files_are_no_copies() -> None:
    assert (CHART / "files" / "gateway").is_symlink()


@dataclass
class RunningGateway:
    folder: Path
    container: dict[str, Any]
    ports: dict[str, int]  # of this machine, by those of the pod

    def get(self, path: str, port: str) -> int:
        """The status that the kubelet sees."""
        [number] = [p["containerPort"] for p in self.container["ports"] if p["name"] == port]
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[str(number)], timeout=5)
        with closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status


@pytest.fixture
def gateway(render: Render, tmp_path: Path) -> Iterator[RunningGateway]:
    """Envoy with the files of the ConfigMap, laid out as the kubelet does; no server answers."""
    objects = render()
    one = container(objects, "ssd-gateway")
    mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
    ports = choose_ports({"8001": ("127.0.0.1", 0), "8002": ("127.0.0.1", 0)})
    (tmp_path / "files").mkdir()
    (tmp_path / "tmp").mkdir()
    here = {
        f'"{mounts["tmp"]}/': f'"{tmp_path}/tmp/',
        f'"{mounts["files"]}': f'"{tmp_path}/files',
        '"0.0.0.0"': '"127.0.0.1"',
        '"ssd-triton"': '"localhost"',
    } | {f"port_value: {number}}}": f"port_value: {port}}}" for number, port in ports.items()}
    written = files_of(objects)
    for old, new in here.items():
        assert old in written[BOOTSTRAP]
        written[BOOTSTRAP] = written[BOOTSTRAP].replace(old, new)
    place(tmp_path / "files", written, "1")
    validate(find_envoy(), tmp_path / "files" / BOOTSTRAP)
    command = [word.replace(mounts["files"], f"{tmp_path}/files") for word in one["command"]]
    running = RunningGateway(tmp_path, one, ports)
    # As the pod does it, but it takes 1 s to tell all connections to go.
    command = [str(find_envoy()), *command[1:-1], "1", "--log-level", "warning"]
    with subprocess.Popen(command) as envoy:
        try:
            wait_until(lambda: running.get("/metrics", "metrics") == 200, retry=OSError)
            yield running
        finally:
            envoy.terminate()


def place(folder: Path, files: dict[str, str], version: str) -> None:
    """Write files as the kubelet does into a volume: behind a link, which it exchanges."""
    (folder / f"..{version}").mkdir()
    for name, text in files.items():
        (folder / f"..{version}" / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    (folder / "..data_tmp").symlink_to(f"..{version}")
    (folder / "..data_tmp").rename(folder / "..data")


def test_the_kubelet_finds_it_well_though_no_server_answers(gateway: RunningGateway) -> None:
    for probe in ("readinessProbe", "livenessProbe"):
        asked = gateway.container[probe]["httpGet"]
        assert gateway.get(asked["path"], asked["port"]) == 200
    assert gateway.get("/v2/health/live", "gateway") == 503


def test_new_keys_hold_when_the_kubelet_exchanges_the_files(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    assert gateway.get("/v2/models/ensemble", "gateway") == 503
    (tmp_path / "keys.txt").write_text("camera-1 0123456789abcdef\n")
    files = tmp_path / "keyed"
    write_gateway_files(FilesSettings(output=files, keys_file=tmp_path / "keys.txt"))
    place(gateway.folder / "files", {ROUTES: (files / ROUTES).read_text()}, "2")
    wait_until(lambda: gateway.get("/v2/models/ensemble", "gateway") == 401)


def test_a_connection_that_stays_is_told_to_go_elsewhere(gateway: RunningGateway) -> None:
    """preStop, as it stands in the pod; only its socket is elsewhere, and it sleeps for no time."""
    hook = gateway.container["lifecycle"]["preStop"]["exec"]["command"]
    [shell, option, script] = hook
    socket = f"{gateway.folder}/tmp/admin.sock"
    assert script.count("/tmp/admin.sock") == 1
    script = script.replace("/tmp/admin.sock", socket).replace("sleep 20", "exit 0")
    connection = http.client.HTTPConnection("127.0.0.1", gateway.ports["8001"], timeout=5)
    with closing(connection):
        assert not is_closing(connection)
        done = subprocess.run(
            [shell, option, script],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": os.defpath},
        )
        assert "200 OK" in done.stdout
        wait_until(lambda: is_closing(connection))


def is_closing(connection: http.client.HTTPConnection) -> bool:
    """Whether the next answer on a connection says that it is the last."""
    connection.request("GET", "/v2/health/live")
    answer = connection.getresponse()
    answer.read()
    return answer.headers["connection"] == "close"


def test_it_gets_the_time_to_go(render: Render) -> None:
    for seconds in (20, 45):
        objects = render(gateway__drainSeconds=seconds)
        one = container(objects, "ssd-gateway")
        assert one["command"][0] == "envoy"
        assert one["command"][-2:] == ["--drain-time-s", str(seconds)]
        script = one["lifecycle"]["preStop"]["exec"]["command"][-1]
        assert f"sleep {seconds}" in script
        assert pod(objects, "ssd-gateway")["terminationGracePeriodSeconds"] > seconds


def test_files_of_ones_own_take_the_place_of_the_charts(render: Render) -> None:
    objects = render(gateway__filesSecret="private-files")
    assert not [each for each in objects if each["kind"] == "ConfigMap"]
    [files, _] = pod(objects, "ssd-gateway")["volumes"]
    assert files["secret"]["secretName"] == "private-files"


@pytest.mark.parametrize("files", VALUES.values(), ids=VALUES)
def test_envoys_memory_has_room_in_the_pods(render: Render, files: list[str]) -> None:
    limit = container(render(files), "ssd-gateway")["resources"]["limits"]["memory"]
    assert (
        int(limit.removesuffix("Mi")) >= FilesSettings().memory_mb * 1.4
    )  # docs/gateway.md#limits
