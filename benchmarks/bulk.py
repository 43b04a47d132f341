"""Photos a second of `bulk`, beside `client detect --output` on the same cores, and other engines.

    python -m venv .venv-engines
    .venv-engines/bin/pip install -c constraints.txt -e '.[bulk]' 'ray[data]==2.60.0'
    python -m benchmarks.bulk --engines .venv-engines/bin/python \
        --output benchmarks/results/bulk.json

All detect in the same photos in turns, each as a command of its own, once in `few` and once in
`many`. What starting costs is told by the few, the pace by what the others took beyond that. The
engines run the same detections in parts as `bulk` does, and write nothing.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.measurement import machine
from benchmarks.measurement.figures import show_figures, spread

REPOSITORY = ROOT / "model_repository"
SCRIPT = ROOT / "benchmarks" / "bulk_engines.py"
ENGINES = ("pool", "dask", "ray", "ray_data")

Command = Callable[[Path, Path], list[str]]


@dataclass(frozen=True)
class Settings:
    """Compare commands that detect in a folder."""

    photos: Path = ROOT / "samples"
    """Folder of photos, which are taken again and again."""
    few: int = 2
    """Photos of a run that is nearly all start."""
    many: int = 2000
    """Photos of a run that is nearly all work."""
    part: int = 100
    """Photos of a part."""
    turns: int = 3
    """Of each command."""
    engines: Path | None = None
    """A Python that has Dask and Ray; None: they are left out."""
    output: Path | None = None
    """JSON file to write the figures to."""


def measure_pace(settings: Settings) -> dict[str, Any]:
    """The figures of each command, medians and quartiles over its turns."""
    commands = _choose_commands(settings)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        few, many = (_make_folder(settings, Path(folder), n) for n in _sizes(settings))
        for turn in tqdm(range(settings.turns), disable=None):
            names = list(commands)
            for name in names if turn % 2 == 0 else reversed(names):
                start, seconds = (_time(commands[name], photos) for photos in (few, many))
                pace = (settings.many - settings.few) / (seconds - start)
                found[name].append({"start_seconds": start, "photos_a_second": pace})
    return {name: _summarize(turns) for name, turns in found.items()}


def _choose_commands(settings: Settings) -> Mapping[str, Command]:
    """What is compared: from photos and a folder for results to a command line."""
    part = str(settings.part)
    commands: dict[str, Command] = {
        "bulk": lambda photos, to: [
            *(sys.executable, "-m", "bulk", str(photos), "--output", str(to / "found")),
            *("--local", str(REPOSITORY), "--part", part),
        ],
        "client detect --output": lambda photos, to: [
            *(sys.executable, "-m", "client", "detect", str(photos)),
            *("--output", str(to / "found.jsonl"), "--local", str(REPOSITORY)),
        ],
    }
    for engine in ENGINES if settings.engines else ():
        commands[f"engine {engine}"] = lambda photos, _, engine=engine: [  # type: ignore[misc]
            *(str(settings.engines), str(SCRIPT), engine, str(photos), str(REPOSITORY), part)
        ]
    return commands


def _sizes(settings: Settings) -> tuple[int, int]:
    return settings.few, settings.many


def _make_folder(settings: Settings, folder: Path, count: int) -> Path:
    """A folder of so many names of the photos."""
    photos = sorted(path for path in settings.photos.rglob("*") if path.suffix == ".jpg")
    made = folder / str(count)
    made.mkdir()
    for number in range(count):
        (made / f"{number:06}.jpg").symlink_to(photos[number % len(photos)].resolve())
    return made


def _time(command: Command, photos: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        subprocess.run(
            command(photos, Path(folder)), cwd=ROOT, check=True, stderr=subprocess.DEVNULL
        )
        return time.monotonic() - begin


def _summarize(turns: list[dict[str, float]]) -> dict[str, Any]:
    return {key: spread([turn[key] for turn in turns]) for key in turns[0]}


def main(settings: Settings) -> int:
    """Measure, and show or write the figures."""
    found = {"machine": machine.describe_machine(), "commands": measure_pace(settings)}
    said = {"part": settings.part, "few": settings.few, "many": settings.many}
    show_figures(found | {"settings": said}, settings.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
