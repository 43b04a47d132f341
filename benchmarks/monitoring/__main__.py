"""What people are told when a fleet breaks, how soon, and what the dashboard shows meanwhile.

    python -m benchmarks.monitoring --output benchmarks/results/monitoring.json \\
        --pictures docs/images

Two servers over a store of the S3 protocol behind a gateway, a steady load, and a real Prometheus
and Alertmanager with the shipped rules, in which a minute is two seconds (quicker.py). Each trouble
lasts until its alert has come and a while longer. The pictures are not Grafana's: matplotlib draws
the same panels from the same queries.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.load.steady import Steady
from benchmarks.measurement.figures import show_figures
from benchmarks.monitoring.dashboard import Panel, read_panels
from benchmarks.monitoring.pictures import Window, draw_panels
from benchmarks.monitoring.stack import Told
from benchmarks.monitoring.watched import Watched, watch_fleet

TROUBLES: dict[str, Callable[[Watched], AbstractContextManager[object]]] = {
    "frozen-process": Watched.frozen_process,
    "frozen-server": Watched.frozen_server,
    "store-away": Watched.store_away,
    "overload": Watched.overload,
}
TOP = 14  # Grafana's lines of the dashboard's first two questions
PATIENCE = 300.0  # seconds until an alert must have come, and gone


@dataclass(frozen=True)
class Settings:
    """Break a watched fleet in every way, and see who is told what, and when."""

    rate: float = 40.0
    """Photos a second, all the time."""
    calm_seconds: float = 60.0
    """How long nothing is broken before each trouble."""
    longer_seconds: float = 20.0
    """How long it stays broken after its first alert."""
    output: Path | None = None
    """JSON file to write the figures to."""
    pictures: Path | None = None
    """Folder for monitoring-*.png: the dashboard under load, and its top in each trouble."""


def main(settings: Settings) -> int:
    panels = read_panels()
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        watch_fleet(Path(folder)) as watched,
        Steady([watched.fleet.url], settings.rate),
    ):
        time.sleep(settings.calm_seconds)
        _draw(watched, panels, settings, "load")
        for name in tqdm(TROUBLES, unit="trouble"):
            rows.append(_observe(watched, panels, settings, name))
            time.sleep(settings.calm_seconds)
    show_figures(
        {
            "command": f"python -m benchmarks.monitoring {' '.join(sys.argv[1:])}",
            "load_photos_per_second": settings.rate,
            "rows": rows,
        },
        settings.output,
    )
    return 0


def _observe(
    watched: Watched, panels: list[Panel], settings: Settings, name: str
) -> dict[str, Any]:
    """Make trouble, and put down what is told. Times are seconds."""
    webhook = watched.stack.webhook
    known, began = len(webhook.told), time.monotonic()
    with TROUBLES[name](watched):
        _wait(lambda: bool(webhook.firing()))
        time.sleep(settings.longer_seconds)
        _draw(watched, [panel for panel in panels if panel.place[1] < TOP], settings, name)
    mended = time.monotonic()
    _wait(lambda: not webhook.firing())
    told = webhook.told[known:]
    return {
        "what": name,
        "alerts": sorted({_name(one) for one in told}),
        "first_told_after": round(told[0].when - began, 1),
        "over_after": round(max(one.when for one in told) - mended, 1),
    }


def _name(told: Told) -> str:
    return " ".join(filter(None, (told.receiver, told.alert, told.server)))


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE:.0f} s")
        time.sleep(0.05)


def _draw(watched: Watched, panels: list[Panel], settings: Settings, name: str) -> None:
    if settings.pictures:
        now = time.time()
        window = Window(now - settings.calm_seconds, now)
        draw_panels(watched.stack, panels, window, settings.pictures / f"monitoring-{name}.png")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(tyro.cli(Settings)))
