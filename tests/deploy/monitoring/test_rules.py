"""Rules and routing, as Prometheus' and Alertmanager's own tools judge them; the runbook beside."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT

FOLDER = PROJECT / "deploy" / "monitoring"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
TESTS = sorted((FOLDER / "rules" / "tests").glob("*.yml"))
RUNBOOK = PROJECT / "docs" / "runbook.md"


def check(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read_alerts() -> list[dict[str, Any]]:
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


ALERTS = sorted({rule["alert"] for rule in read_alerts()})


@pytest.mark.parametrize("file", ["prometheus.yml", "docker/prometheus.yml"])
def test_prometheus_takes_its_configuration(file: str) -> None:
    assert len(RULES) > 2
    checked = check("promtool", "check", "config", FOLDER / file)
    assert checked.count("rules found") == len(RULES)


def test_both_configurations_of_prometheus_ask_the_same() -> None:
    here, docker = (
        yaml.safe_load((FOLDER / file).read_text())
        for file in ("prometheus.yml", "docker/prometheus.yml")
    )
    assert here["global"] == docker["global"]
    assert here["rule_files"] == ["rules/*.yml"]
    assert docker["rule_files"] == ["../rules/*.yml"]


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_each_alert_fires_when_it_should_and_else_does_not(file: Path) -> None:
    check("promtool", "test", "rules", file)
    cases = [case for test in yaml.safe_load(file.read_text())["tests"] for case in of(test)]
    assert {case["alertname"] for case in cases} == {file.stem}
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


def of(test: dict[str, Any]) -> list[dict[str, Any]]:
    return list(test["alert_rule_test"])


def test_each_alert_has_such_a_test() -> None:
    assert [file.stem for file in TESTS] == ALERTS


def test_each_alert_has_an_entry_in_the_runbook_and_each_entry_an_alert() -> None:
    entries = re.findall(r"^## (Ssd\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert sorted(entries) == ALERTS
    for rule in read_alerts():
        place = f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == place


@pytest.mark.parametrize("name", ALERTS)
def test_each_entry_says_what_to_look_at_what_to_type_and_when_it_is_over(name: str) -> None:
    text = RUNBOOK.read_text()
    [entry] = re.findall(rf"^## {name}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    for part in ("**It means**", "**Look**", "**Type**", "**It is over**"):
        assert part in entry


def test_each_alert_is_a_page_or_a_ticket() -> None:
    assert {rule["labels"]["severity"] for rule in read_alerts()} == {"page", "ticket"}


def test_alertmanager_takes_its_configuration() -> None:
    assert "SUCCESS" in check("amtool", "check-config", FOLDER / "alertmanager.yml")


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_each_severity_has_its_receiver(severity: str) -> None:
    route = ["amtool", "config", "routes", "test", f"--config.file={FOLDER / 'alertmanager.yml'}"]
    assert check(*route, "alertname=SsdDown", f"severity={severity}").strip() == severity


def test_what_may_wait_never_silences_what_may_not() -> None:
    """A source that is not always a page silences alerts that are never one."""
    pages = {rule["alert"] for rule in read_alerts() if rule["labels"]["severity"] == "page"}
    rules = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())["inhibit_rules"]
    for rule in rules:
        source, target = (matches(rule[f"{side}_matchers"]) for side in ("source", "target"))
        assert source
        assert target
        if "ticket" in {severity for _, severity in source}:
            assert {severity for _, severity in target} == {"ticket"}, rule
    assert "SsdErrorBudgetBurnFast" in pages


def matches(matchers: list[str]) -> set[tuple[str, str]]:
    """Alerts and their severities that all matchers of a side take."""
    found = {(rule["alert"], rule["labels"]["severity"]) for rule in read_alerts()}
    for matcher in matchers:
        label, sign, value = re.findall(r'^(\w+)(=~?)"(.*)"$', matcher)[0]
        position = ("alertname", "severity").index(label)
        pattern = value if sign == "=~" else re.escape(value)
        found = {each for each in found if re.fullmatch(pattern, each[position])}
    return found
