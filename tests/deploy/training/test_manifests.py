"""What trains on a cluster: Kubernetes' schemas take it, and its parts agree with each other."""

import itertools
import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.conftest import PROJECT
from tests.deploy.kubernetes.conftest import Objects, find
from training.worker import make_config

FOLDER = PROJECT / "deploy" / "training"
PAGE = PROJECT / "docs" / "training-cluster.md"


def objects_of(name: str) -> Objects:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def runtime_job() -> dict[str, Any]:
    """The Job that Kubeflow Trainer makes of the runtime, as far as it is of Kubernetes."""
    runtime = find(objects_of("trainjob.yaml"), "TrainingRuntime", "ssd-training")
    [node] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    return {"apiVersion": "batch/v1", "kind": "Job", **node["template"]}


@pytest.mark.parametrize("release", ["1.30", "1.37"])
def test_kubernetes_takes_every_object(release: str) -> None:
    for each in [*objects_of("job.yaml"), *objects_of("volume.yaml"), runtime_job()]:
        kubernetes_validate.validate(each, release, strict=True)


def test_the_validator_knows_a_wrong_field() -> None:
    job = find(objects_of("job.yaml"), "Job", "train")
    job["spec"]["podReplacmentPolicy"] = "Failed"
    with pytest.raises(kubernetes_validate.ValidationError, match="podReplacmentPolicy"):
        kubernetes_validate.validate(job, "1.37", strict=True)


def test_a_worker_is_known_by_the_name_that_kubernetes_gives_its_pod() -> None:
    objects = objects_of("job.yaml")
    job, service = find(objects, "Job", "train"), find(objects, "Service", "train")
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    workers, address = told(container["command"])
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == workers
    assert address == f"{job['metadata']['name']}-{{index}}.{pod['subdomain']}:2222"
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["selector"] == job["spec"]["template"]["metadata"]["labels"]
    assert (service["spec"]["clusterIP"], service["spec"]["ports"][0]["port"]) == ("None", 2222)
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_trainers_pods_start_what_those_of_the_job_do() -> None:
    objects = objects_of("trainjob.yaml")
    runtime, job = objects
    trainer, name = job["spec"]["trainer"], job["metadata"]["name"]
    [ours] = find(objects_of("job.yaml"), "Job", "train")["spec"]["template"]["spec"]["containers"]
    workers, address = told(trainer["command"])
    assert workers == trainer["numNodes"] == runtime["spec"]["mlPolicy"]["numNodes"]
    assert address == f"{name}-node-0-{{index}}.{name}:2222"
    assert (trainer["args"], trainer["resourcesPerNode"]) == (ours["args"], ours["resources"])
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]


def told(command: list[str]) -> tuple[int, str]:
    """The number of workers and their address, of a command that can be started."""
    words = dict(itertools.pairwise(command))
    workers, address = int(words["--workers"]), words["--address"]
    assert command[:3] == ["python", "-m", "training.worker"]
    assert make_config(workers, address, str(workers - 1))
    return workers, address


def test_a_lost_worker_costs_the_job_nothing_and_a_wrong_command_ends_it() -> None:
    spec = find(objects_of("job.yaml"), "Job", "train")["spec"]
    rules = spec["podFailurePolicy"]["rules"]
    by_code = {
        code: rule["action"]
        for rule in rules
        for code in rule.get("onExitCodes", {}).get("values", [])
    }
    assert by_code == {2: "FailJob", 75: "Ignore"}
    [container] = spec["template"]["spec"]["containers"]
    named = {rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule}
    assert named == {container["name"]}
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_pods_may_do_little() -> None:
    for each in [*objects_of("job.yaml"), *objects_of("volume.yaml"), runtime_job()]:
        pod = each.get("spec", {}).get("template", each)["spec"]
        for container in pod.get("containers", []):
            assert pod["automountServiceAccountToken"] is False
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["runAsUser"] == 1000
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_only_workers_reach_a_worker() -> None:
    objects = objects_of("job.yaml")
    policy = find(objects, "NetworkPolicy", "train")["spec"]
    own = [{"podSelector": policy["podSelector"]}]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"from": own}]
    inside, names = policy["egress"]
    assert inside == {"to": own}
    assert {port["port"] for port in names["ports"]} == {53}
    for job in (find(objects, "Job", "train"), runtime_job()):
        labels = job["spec"]["template"]["metadata"]["labels"]
        assert labels == policy["podSelector"]["matchLabels"]


@pytest.mark.parametrize("file", [PAGE, *FOLDER.glob("*.yaml")], ids=lambda file: file.name)
def test_the_command_that_is_told_puts_the_image_in(file: Path) -> None:
    lines = re.findall(r"^(?:#   )?(sed .*) \| kubectl apply -f -$", file.read_text(), re.MULTILINE)
    assert lines
    for line in lines:
        done = subprocess.run(
            ["sh", "-c", f"image=registry.example/detection/training:1; {line}"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert list(yaml.safe_load_all(done.stdout))
        assert "image: registry.example/detection/training:1\n" in done.stdout
        assert not re.search("^[^#]*REGISTRY", done.stdout, re.MULTILINE)
