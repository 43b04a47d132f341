"""Who reaches whom, by the NetworkPolicies as Kubernetes defines them."""

from typing import Any

import pytest

from tests.deploy.kubernetes.conftest import Objects, Render, find

MONITORING = "monitoring"


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def template_of(each: dict[str, Any]) -> dict[str, Any]:
    """What its pods are made of, of a CronJob's Jobs, too."""
    spec = each.get("spec", {})
    return dict(spec.get("jobTemplate", {}).get("spec", spec).get("template", {}))


def labels_of(objects: Objects, component: str) -> dict[str, str]:
    """Those of its pods."""
    for each in objects:
        made = each if each["kind"] == "Pod" else template_of(each)
        labels = made.get("metadata", {}).get("labels", {})
        if labels.get("app.kubernetes.io/component") == component:
            return dict(labels)
    return {"app": component}  # some other pod of the namespace


def is_peer(peer: dict[str, Any], labels: dict[str, str], namespace: str) -> bool:
    """Whether a pod of this chart's namespace, or of another, is one that a policy names."""
    if "ipBlock" in peer:
        return False
    inside = namespace == "default"
    if "namespaceSelector" in peer:
        inside = matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
    return inside and matches(peer.get("podSelector", {}), labels)


def lets_through(
    objects: Objects, side: str, own: dict[str, str], other: dict[str, str], where: str, port: str
) -> bool:
    """Whether the policies of one pod let it talk to, or be talked to by, another one."""
    policies = [each["spec"] for each in objects if each["kind"] == "NetworkPolicy"]
    held = [p for p in policies if matches(p["podSelector"], own) and side in p["policyTypes"]]
    rules = [rule for policy in held for rule in policy[side.lower()]]
    key = "from" if side == "Ingress" else "to"
    return not held or any(
        (key not in rule or any(is_peer(peer, other, where) for peer in rule[key]))
        and ("ports" not in rule or port in [str(each["port"]) for each in rule["ports"]])
        for rule in rules
    )


def reaches(objects: Objects, source: str, target: str, port: str, where: str = "default") -> bool:
    """Whether a pod of `source` may open a connection to a port of `target`."""
    own, other = labels_of(objects, source), labels_of(objects, target)
    arrives = lets_through(objects, "Ingress", other, own, where, port)
    numbers = {"http": "8000", "grpc": "8001", "gateway": "8001"}
    leaves = any(
        lets_through(objects, "Egress", own, other, "default", name)
        for name in (port, numbers.get(port, port))
    )
    return arrives and leaves


def everything(render: Render, **values: Any) -> Objects:
    release = {"release__name": "a", "release__claim": "b", "release__artifact": "c"}
    return render(["cpu.yaml"], repository__claim="models", **release, **values)


@pytest.mark.parametrize("port", ["http", "grpc"])
def test_only_gateway_and_releases_reach_a_server(render: Render, port: str) -> None:
    objects = everything(render)
    assert reaches(objects, "gateway", "triton", port)
    assert reaches(objects, "release", "triton", port) == (port == "grpc")
    for other in ("page", "stranger", "triton"):
        assert not reaches(objects, other, "triton", port), other
    assert not reaches(objects, "stranger", "triton", port, where=MONITORING)


def test_everybody_reaches_the_gateway_or_those_who_are_named(render: Render) -> None:
    objects = everything(render)
    assert reaches(objects, "page", "gateway", "gateway")
    assert reaches(objects, "stranger", "gateway", "gateway", where="elsewhere")
    named = "networkPolicy__clients[0]__podSelector__matchLabels__app"
    objects = everything(render, **{named: "stranger"})
    assert reaches(objects, "page", "gateway", "gateway")
    assert reaches(objects, "doctor", "gateway", "gateway")
    assert reaches(objects, "stranger", "gateway", "gateway")
    assert not reaches(objects, "other", "gateway", "gateway")
    assert not reaches(objects, "stranger", "gateway", "gateway", where="elsewhere")


def test_without_a_gateway_the_page_reaches_a_server(render: Render) -> None:
    objects = everything(render, gateway__enabled="false")
    assert reaches(objects, "page", "triton", "grpc")
    assert reaches(objects, "stranger", "triton", "grpc")
    named = "networkPolicy__clients[0]__podSelector__matchLabels__app"
    objects = everything(render, gateway__enabled="false", **{named: "camera"})
    assert reaches(objects, "camera", "triton", "grpc")
    assert reaches(objects, "page", "triton", "grpc")
    assert not reaches(objects, "stranger", "triton", "grpc")


@pytest.mark.parametrize("target", ["triton", "gateway"])
def test_metrics_are_read_from_the_monitoring_namespace(render: Render, target: str) -> None:
    objects = everything(render)
    assert reaches(objects, "prometheus", target, "metrics", where=MONITORING)
    assert not reaches(objects, "prometheus", target, "metrics")


def test_a_server_leaves_for_nowhere_but_its_bucket(render: Render) -> None:
    objects = everything(render)
    assert find(objects, "NetworkPolicy", "ssd-triton")["spec"]["egress"] == []
    objects = render(["s3.yaml"])
    egress = find(objects, "NetworkPolicy", "ssd-triton")["spec"]["egress"]
    assert sorted(p["port"] for rule in egress for p in rule["ports"]) == [53, 53, 80, 443, 988]
