"""The shipped configuration of Prometheus and Alertmanager with a minute made two seconds.

Only durations are exchanged: how long an alert waits, the ranges of its queries, how often is
looked. What is asked stays word for word. Counts that a rule multiplies by seconds are 30 times too
high then.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from benchmarks import ROOT

SHIPPED = ROOT / "deploy" / "monitoring"
TIMES = 30
LOOK = "1s"  # how often targets are asked and rules evaluated
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
RANGE = re.compile(r"\[(\d+[smhd])\]")


def _shorten(duration: str) -> str:
    """5m as 10000ms."""
    return f"{int(duration[:-1]) * SECONDS[duration[-1]] * 1000 // TIMES}ms"


def shorten_query(query: str) -> str:
    """A query with shorter ranges."""
    return RANGE.sub(lambda found: f"[{_shorten(found[1])}]", query)


def write_rules(folder: Path) -> None:
    """Write the shipped rules into a folder, shortened."""
    for file in (SHIPPED / "rules").glob("*.yml"):
        rules = yaml.safe_load(file.read_text())
        for group in rules["groups"]:
            _shorten_keys(group, "interval")
            for rule in group["rules"]:
                _shorten_keys(rule, "for", "keep_firing_for")
                rule["expr"] = shorten_query(rule["expr"])
        (folder / file.name).write_text(yaml.safe_dump(rules))


def make_prometheus(rules: Path, targets: Path, alertmanager: str) -> str:
    """Make prometheus.yml for these rules, this folder of targets, this Alertmanager."""
    whole = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
    whole["global"] = dict.fromkeys(("scrape_interval", "evaluation_interval"), LOOK)
    whole["global"]["scrape_timeout"] = LOOK
    whole["rule_files"] = [f"{rules}/*.yml"]
    whole["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alertmanager]
    [job] = whole["scrape_configs"]
    job["file_sd_configs"][0]["files"] = [f"{targets}/*.json"]
    return str(yaml.safe_dump(whole))


def make_alertmanager(webhook: str) -> str:
    """Make alertmanager.yml for this webhook, whose path stays the receiver's name."""
    whole = yaml.safe_load((SHIPPED / "alertmanager.yml").read_text())
    for route in (whole["route"], *whole["route"]["routes"]):
        _shorten_keys(route, "group_wait", "group_interval")
    for receiver in whole["receivers"]:
        receiver["webhook_configs"][0]["url"] = f"{webhook}/{receiver['name']}"
    return str(yaml.safe_dump(whole))


def _shorten_keys(settings: dict[str, Any], *keys: str) -> None:
    settings.update({key: _shorten(settings[key]) for key in keys if key in settings})
