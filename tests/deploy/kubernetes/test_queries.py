"""By what servers are added and a canary is judged: asked of a real Prometheus, of real metrics."""

import json
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from benchmarks.autoscaling import DOWN, STABILIZATION, UP
from client import Detector
from serving.server.prerequisites import choose_ports
from tests.conftest import wait_until
from tests.deploy.kubernetes.conftest import CHART, Render, find
from tests.deploy.kubernetes.test_custom_resources import ALL, THERE

CLIENTS = 3
LABELS = 'namespace="default",service="ssd-triton"'

Ask = Callable[[str], float | None]


class Server(Protocol):
    """The `image_server` fixture."""

    def url(self, protocol: str) -> str: ...


@pytest.fixture(scope="module")
def prometheus(image_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """ask(query): the one number that Prometheus answers with; None for none."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.fail("These tests need Prometheus: apt-get install prometheus", pytrace=False)
    folder = tmp_path_factory.mktemp("prometheus")
    target = {"targets": [image_server.url("metrics")]}
    target["labels"] = {"namespace": "default", "service": "ssd-triton"}  # type: ignore[assignment]
    jobs = [{"job_name": "triton", "static_configs": [target]}]
    config = {"global": {"scrape_interval": "500ms"}, "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{choose_ports({'--port': ('127.0.0.1', 0)})['--port']}"
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}"]
    command += [f"--web.listen-address={address}", "--log.level=error"]

    def ask(query: str) -> float | None:
        words = urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(f"http://{address}/api/v1/query?{words}", timeout=10) as answer:
            found = json.load(answer)["data"]["result"]
        assert len(found) < 2
        return float(found[0]["value"][1]) if found else None

    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: ask("up") == 1, retry=OSError)
            yield ask
        finally:
            process.terminate()


@pytest.fixture
def busy(image_server: Server, smear: Path) -> Iterator[None]:
    """Clients who ask without a pause."""
    over = threading.Event()

    def use() -> None:
        with Detector(image_server.url("grpc"), timeout=60) as detector:
            while not over.is_set():
                detector.detect(smear)

    threads = [threading.Thread(target=use) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join()


@pytest.fixture
def triggers(render: Render) -> dict[str, Any]:
    """What KEDA asks, by name."""
    scaled = find(render(options=THERE, **ALL), "ScaledObject", "ssd-triton")
    return {each["name"]: each for each in scaled["spec"]["triggers"]}


@pytest.mark.usefixtures("busy")
def test_requests_under_way_are_as_many_as_clients_wait(
    prometheus: Ask, triggers: dict[str, Any]
) -> None:
    query = triggers["requests-under-way"]["metadata"]["query"]
    wait_until(lambda: (prometheus(query) or 0) > 0)
    # A minute's window wants a minute of samples.
    short = query.replace("[1m]", "[4s]")
    wait_until(lambda: CLIENTS / 3 < (prometheus(short) or 0) < CLIENTS * 1.2)


@pytest.mark.usefixtures("busy")
def test_waiting_is_counted_by_the_photo(prometheus: Ask, triggers: dict[str, Any]) -> None:
    """Triton's own average is over the requests of all models, of which a photo makes four."""
    query = triggers["queue-seconds"]["metadata"]["query"]
    whole = f"sum(rate(nv_inference_request_success{{{LABELS}}}[1m]))"
    misleading = f"sum(rate(nv_inference_queue_duration_us{{{LABELS}}}[1m])) / 1e6 / {whole}"
    wait_until(lambda: (prometheus(query) or 0) > 0)
    wait_until(lambda: abs((prometheus(f"({query}) / ({misleading})") or 0) - 4) < 0.2)


@pytest.mark.usefixtures("busy")
def test_a_version_is_as_good_as_itself(prometheus: Ask, render: Render) -> None:
    template = find(render(options=THERE, **ALL), "AnalysisTemplate", "ssd-canary")["spec"]
    asked = {}
    for metric in template["metrics"]:
        query = metric["provider"]["prometheus"]["query"]
        asked[metric["name"]] = re.sub(r"{{args\.(canary|live)}}", "ensemble", query)
    assert {each["name"] for each in template["args"]} == {"canary", "live"}
    wait_until(lambda: (prometheus(asked["enough"]) or 0) > 0)
    assert prometheus(asked["failures"]) == 0
    assert prometheus(asked["slowdown"]) == 1


def test_nobody_waits_where_nobody_asks(prometheus: Ask, triggers: dict[str, Any]) -> None:
    for each in triggers.values():
        query = each["metadata"]["query"].replace("[1m]", "[2s]")
        wait_until(lambda query=query: prometheus(query) == 0)  # type: ignore[misc]


def test_the_adapter_asks_what_keda_asks(triggers: dict[str, Any], render: Render) -> None:
    rules = yaml.safe_load((CHART / "prometheus-adapter.yaml").read_text())["rules"]["external"]
    asked = {rule["name"]["as"]: rule["metricsQuery"] for rule in rules}
    asked = {name: text.replace("<<.LabelMatchers>>", LABELS) for name, text in asked.items()}
    assert asked == {
        "ssd_requests_under_way": triggers["requests-under-way"]["metadata"]["query"],
        "ssd_queue_seconds": triggers["queue-seconds"]["metadata"]["query"],
    }
    scaler = find(render(autoscaling__enabled="true"), "HorizontalPodAutoscaler", "ssd-triton")
    metrics = [each["external"] for each in scaler["spec"]["metrics"]]
    assert [each["metric"]["name"] for each in metrics] == list(asked)
    targets = [each["target"] for each in metrics]
    assert targets[0] == {"type": "AverageValue", "averageValue": "2"}
    assert triggers["requests-under-way"]["metadata"]["threshold"] == "2"
    assert targets[1] == {"type": "Value", "value": "50m"}
    assert triggers["queue-seconds"]["metadata"]["threshold"] == "0.05"


def test_the_simulation_changes_as_fast_as_the_chart(render: Render) -> None:
    scaler = find(render(autoscaling__enabled="true"), "HorizontalPodAutoscaler", "ssd-triton")
    behavior = scaler["spec"]["behavior"]
    for side, simulated in (("scaleUp", UP), ("scaleDown", DOWN)):
        policies = behavior[side]["policies"]
        assert behavior[side]["selectPolicy"] == "Max"
        assert {each["type"].lower(): each["value"] for each in policies} == simulated
        assert {each["periodSeconds"] for each in policies} == {60}
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == STABILIZATION


@pytest.mark.parametrize("kind", ["hpa", "keda"])
def test_it_decides_how_many_servers_there_are(render: Render, kind: str) -> None:
    values = {"autoscaling__enabled": "true", "autoscaling__kind": kind}
    objects = render(options=THERE, **values)
    assert "replicas" not in find(objects, "Deployment", "ssd-triton")["spec"]
    name = {"hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}[kind]
    assert find(objects, name, "ssd-triton")["spec"]["scaleTargetRef"]["name"] == "ssd-triton"
    gateway = find(objects, "ConfigMap", "ssd-gateway")["data"]["envoy.yaml"]
    assert "max_requests: 160\n" in gateway  # of the most that there may be
