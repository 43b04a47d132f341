"""What people are told when a fleet breaks, how soon, and what the dashboard shows meanwhile.

    python -m benchmarks.monitoring --output benchmarks/results/monitoring.json \\
        --pictures docs/images

Two servers over a store of the S3 protocol behind a gateway, a steady load, and a real Prometheus
and Alertmanager with the shipped rules, in which a minute is two seconds (quicker.py). Each trouble
begins when nothing fires, and lasts until its alert has come and a while longer. The pictures are
not Grafana's: matplotlib draws the same panels from the same queries.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.contestants.ensemble import newest_network, repository_with
from benchmarks.drift import encode_photos, render_photos
from benchmarks.load.steady import Steady
from benchmarks.measurement import machine
from benchmarks.measurement.figures import show_figures
from benchmarks.monitoring.dashboard import Panel, read_panels
from benchmarks.monitoring.pictures import Window, draw_panels
from benchmarks.monitoring.releases import (
    SMEARS,
    Releases,
    judging,
    render_other,
    write_reference,
    write_worse,
)
from benchmarks.monitoring.stack import FIRING, Told
from benchmarks.monitoring.watched import Watched, watch_fleet

TROUBLES: dict[str, Callable[[Releases], AbstractContextManager[object]]] = {
    "worse-version": Releases.worse_version,
    "other-stain": Releases.other_stain,
    "frozen-process": lambda all_: all_.watched.frozen_process(),
    "frozen-server": lambda all_: all_.watched.frozen_server(),
    "store-away": lambda all_: all_.watched.store_away(),
    "overload": lambda all_: all_.watched.overload(),
}
SHIPPED = ROOT / "model_repository"
TOP = 14  # Grafana's lines of the dashboard's first two questions
PATIENCE = 300.0  # seconds until an alert must have come, and gone


@dataclass(frozen=True)
class Settings:
    """Break a watched fleet in every way, and see who is told what, and when."""

    only: tuple[str, ...] = tuple(TROUBLES)
    """Which troubles."""
    rate: float = 10.0
    """Photos a second, all the time; of another stain three times as many."""
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
        _release(Path(folder), settings.rate) as releases,
    ):
        time.sleep(settings.calm_seconds)
        _draw(releases.watched, panels, settings, "load")
        for name in tqdm(settings.only, unit="trouble"):
            rows.append(_observe(releases, panels, settings, name))
            _show(rows, settings)
            time.sleep(settings.calm_seconds)
    return 0


@contextmanager
def _release(folder: Path, rate: float) -> Iterator[Releases]:
    """A watched fleet under load with a version to release, and who judges drift."""
    photos, other = encode_photos(render_photos(SMEARS, seed=0)), render_other()
    with repository_with(newest_network(SHIPPED), SHIPPED) as models:
        write_reference(models, photos)
        write_worse(folder / "worse", models, photos)
        with (
            watch_fleet(folder, models, photos) as watched,
            Steady([watched.fleet.url], rate, photos),
            judging(watched),
        ):
            yield Releases(watched, folder / "worse", other, 3 * rate)


def _show(rows: list[dict[str, Any]], settings: Settings) -> None:
    """Write what there is: a later trouble may end the run."""
    show_figures(
        {
            "command": f"python -m benchmarks.monitoring {' '.join(sys.argv[1:])}",
            "machine": machine.describe_machine(),
            "load_photos_per_second": settings.rate,
            "rows": rows,
        },
        settings.output,
    )


def _observe(
    releases: Releases, panels: list[Panel], settings: Settings, name: str
) -> dict[str, Any]:
    """Make trouble, and put down what is told. Times are seconds, None where it did not come."""
    stack = releases.watched.stack
    webhook = stack.webhook
    calm = _wait(lambda: not webhook.firing() and not stack.query(FIRING))
    known, began = len(webhook.told), time.monotonic()
    with TROUBLES[name](releases):
        _wait(lambda: bool(webhook.firing()))
        time.sleep(settings.longer_seconds)
        _draw(releases.watched, [each for each in panels if each.place[1] < TOP], settings, name)
    mended = time.monotonic()
    over = _wait(lambda: not webhook.firing())
    told = webhook.told[known:]
    return {
        "what": name,
        "calm_before": calm,
        "alerts": sorted({_name(one) for one in told}),
        "first_told_after": round(told[0].when - began, 1) if told else None,
        "over_after": round(max(one.when for one in told) - mended, 1) if told and over else None,
    }


def _name(told: Told) -> str:
    return " ".join(filter(None, (told.receiver, told.alert, told.server)))


def _wait(condition: Callable[[], bool]) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _draw(watched: Watched, panels: list[Panel], settings: Settings, name: str) -> None:
    if settings.pictures:
        now = time.time()
        window = Window(now - settings.calm_seconds, now)
        draw_panels(watched.stack, panels, window, settings.pictures / f"monitoring-{name}.png")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(tyro.cli(Settings)))
