"""What is told where a cluster is asked: of an interface of Kubernetes as much as Helm asks for."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.deploy.kubernetes.conftest import CHART, Helm

NAMESPACE = "/api/v1/namespaces/default"
KINDS = {"secrets": "Secret", "serviceaccounts": "ServiceAccount"}


class Cluster(ThreadingHTTPServer):
    """Answers with the objects that it was given, by path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        resources = [
            {"name": name, "namespaced": True, "kind": kind, "verbs": ["get"]}
            for name, kind in KINDS.items()
        ]
        self.objects: dict[str, object] = {
            "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
            "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": resources},
        }
        self.add("serviceaccounts", "default")

    def add(self, kind: str, name: str, **content: object) -> None:
        """An object of the namespace."""
        head = {"apiVersion": "v1", "kind": KINDS[kind], "metadata": {"name": name}}
        self.objects[f"{NAMESPACE}/{kind}/{name}"] = head | content


class Answer(BaseHTTPRequestHandler):
    server: Cluster

    def do_GET(self) -> None:
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
        missing["reason"] = "NotFound"
        found = self.server.objects.get(self.path.partition("?")[0])
        body = json.dumps(found or missing).encode()
        self.send_response(200 if found else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(helm: Helm, cluster: Cluster, folder: Path, *values: str) -> str:
    """What Helm refuses with before it applies anything.

    Where the chart refuses nothing, it is this cluster's lack of all that Helm asks afterwards.
    """
    server = {"server": f"http://127.0.0.1:{cluster.server_port}"}
    config = {
        "clusters": [{"name": "a", "cluster": server}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "users": [{"name": "a", "user": {}}],
        "current-context": "a",
    }
    (folder / "config").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config"} | config))
    command = ["template", "ssd", str(CHART), "--dry-run=server", "--set=triton.image=a"]
    command += [f"--kubeconfig={folder}/config", *(f"--set={value}" for value in values)]
    done = helm(*command, env={"HOME": str(folder)})
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr


def test_a_secret_that_is_not_there(helm: Helm, cluster: Cluster, tmp_path: Path) -> None:
    told = ask(helm, cluster, tmp_path)
    assert "triton.adminKeySecret is triton-admin-key: there is no such Secret in the" in told
    cluster.add("secrets", "triton-admin-key", data={"password": "aw=="})
    assert "or it has no entry key" in ask(helm, cluster, tmp_path)
    cluster.add("secrets", "triton-admin-key", data={"key": "aw=="})
    assert "execution error" not in ask(helm, cluster, tmp_path)
    told = ask(helm, cluster, tmp_path, "gateway.filesSecret=files")
    assert "gateway.filesSecret is files: there is no such Secret" in told
    told = ask(helm, cluster, tmp_path, "gateway.filesSecret=files", "gateway.enabled=false")
    assert "execution error" not in told


def test_a_cluster_that_is_too_old(helm: Helm, cluster: Cluster, tmp_path: Path) -> None:
    cluster.objects["/version"] = {"major": "1", "minor": "28", "gitVersion": "v1.28.4"}
    told = ask(helm, cluster, tmp_path)
    assert "requires kubeVersion: >=1.30.0-0 which is incompatible with Kubernetes v1.28.4" in told


def test_an_operator_that_is_not_there(helm: Helm, cluster: Cluster, tmp_path: Path) -> None:
    told = ask(helm, cluster, tmp_path, "monitoring.enabled=true")
    assert "monitoring.enabled needs the Prometheus operator, which this cluster does not" in told
