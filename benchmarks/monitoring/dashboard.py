"""The shipped Grafana dashboard's panels, and what a Prometheus answers to their queries."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.monitoring.quicker import SHIPPED, shorten_query

FILE = SHIPPED / "grafana" / "dashboards" / "ssd.json"
LABEL = re.compile(r"{{\s*(\w+)\s*}}")


@dataclass(frozen=True)
class Panel:
    """One panel that asks something."""

    title: str
    kind: str  # stat, timeseries or state-timeline
    place: tuple[int, int, int, int]  # x, y, width, height in Grafana's units, 24 a row
    defaults: Mapping[str, Any]  # how values are shown
    queries: Mapping[str, str]  # by the pattern of their legend


def read_panels() -> list[Panel]:
    """The panels in the order of the file, rows' heads left out."""
    return list(_read_panels(json.loads(FILE.read_text())["panels"]))


def _read_panels(panels: list[dict[str, Any]]) -> Iterator[Panel]:
    for panel in panels:
        if panel["type"] == "row":
            continue
        place = panel["gridPos"]
        yield Panel(
            panel["title"],
            panel["type"],
            (place["x"], place["y"], place["w"], place["h"]),
            panel["fieldConfig"]["defaults"],
            {target["legendFormat"]: target["expr"] for target in panel["targets"]},
        )


def fill_in(query: str, interval: str = "10s") -> str:
    """A query with Grafana's variable replaced, and a minute made two seconds."""
    return shorten_query(query).replace("$__rate_interval", interval)


def format_legend(pattern: str, labels: Mapping[str, str]) -> str:
    """A series' name, as Grafana makes it."""
    return LABEL.sub(lambda found: labels.get(found[1], ""), pattern).strip()
