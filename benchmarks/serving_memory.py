"""Whether memory grows: many requests, and the size of each process on the way.

    python -m benchmarks.serving_memory --requests 100000 --output runs/serving_memory

The photos come in turn, at one concurrency, so the server does the same all the time. Growth is
counted from the end of the warm-up, when pools and caches have their size, to the end.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import tyro
from matplotlib import pyplot
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.contestants.ensemble import ensemble, newest_network, repository_with
from benchmarks.contestants.served import Served
from benchmarks.contestants.slice import ContestantError
from benchmarks.contestants.worker import WorkerError
from benchmarks.measurement import machine
from benchmarks.measurement.accuracy import expected
from benchmarks.measurement.photos import find_photos

matplotlib.use("Agg")
TOTAL = "all together"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Send many requests and look at the memory of the embedded server's processes."""

    photos: Path = ROOT / "samples"
    """Folder of JPEGs, or COCO file as `training coco` writes it."""
    repository: Path = ROOT / "model_repository"
    """Model repository."""
    network: Path | None = None
    """ONNX file to serve instead of the repository's."""
    requests: int = 100_000
    """How many."""
    warm_up: int = 5_000
    """Of these, how many before growth is counted."""
    every: int = 1_000
    """Requests between two looks."""
    concurrency: int = 8
    """Requests under way at once."""
    triton: tuple[str, ...] = ()
    """Further arguments for tritonserver."""
    output: Path = Path("runs/serving_memory")
    """Folder for the JSON and the picture."""


def main(settings: Settings) -> int:
    """Measure, write, print. Exit code 1: a request failed."""
    settings.output.mkdir(parents=True, exist_ok=True)
    samples, verdicts = _measure_growth(settings)
    result = {
        "machine": machine.describe_machine(),
        "requests": settings.requests,
        "concurrency": settings.concurrency,
        "verdicts": verdicts,
        "growth": growth(samples, settings.warm_up),
        "samples": samples,
    }
    (settings.output / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(samples, settings.warm_up, settings.output / "memory.png")
    print(table(result))
    return int(set(verdicts) != {"OK"})


def _measure_growth(settings: Settings) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """After each so many requests: {"requests": n, "mib": role -> {"pss": ..., "rss": ...}}."""
    photos = find_photos(settings.photos)
    network = settings.network or newest_network(settings.repository)
    options = ["--", *settings.triton] if settings.triton else []
    verdicts: dict[str, int] = {}
    with (
        repository_with(network, settings.repository) as repository,
        Served(
            ensemble(repository, options=options),
            photos,
            expected(network, photos),
            settings.output / "server.log",
        ) as server,
    ):
        samples = [{"requests": 0, "mib": with_total(server.memory())}]
        for done in tqdm(range(0, settings.requests, settings.every), disable=None):
            count = min(settings.every, settings.requests - done)
            for verdict, number in server.send(settings.concurrency, count).verdicts.items():
                verdicts[verdict] = verdicts.get(verdict, 0) + number
            samples.append({"requests": done + count, "mib": with_total(server.memory())})
    return samples, verdicts


def with_total(sizes: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The sizes by role and their sum."""
    total = {key: sum(each[key] for each in sizes.values()) for key in ("rss", "pss")}
    return {**{role: dict(each) for role, each in sizes.items()}, TOTAL: total}


def growth(samples: Sequence[Mapping[str, Any]], warm_up: int) -> dict[str, dict[str, float]]:
    """By role: MiB after the warm-up and at the end, and the growth between in percent.

    Both are means of three looks: a look at a moment when photos are under way counts them too.
    """
    counted = [each["mib"] for each in samples if each["requests"] >= warm_up]
    found = {}
    for role in counted[-1]:
        sizes = [each[role] for each in counted if role in each]
        first, last = sizes[:3], sizes[-3:]
        entry: dict[str, float] = {}
        for kind in ("pss", "rss"):
            before = sum(each[kind] for each in first) / len(first)
            after = sum(each[kind] for each in last) / len(last)
            entry |= {
                f"{kind}_before": before,
                f"{kind}_after": after,
                f"{kind}_growth_percent": 100 * (after / before - 1),
            }
        found[role] = entry
    return found


def table(result: Mapping[str, Any]) -> str:
    """Markdown: a row for each role."""
    lines = [
        f"{result['requests']} requests at concurrency {result['concurrency']}: "
        f"{result['verdicts']}",
        "",
        "| | PSS after warm-up, MiB | at the end | growth | RSS after warm-up, MiB | at the end "
        "| growth |",
        "|---|---|---|---|---|---|---|",
    ]
    for role, found in result["growth"].items():
        cells = [
            text
            for kind in ("pss", "rss")
            for text in (
                f"{found[f'{kind}_before']:.1f}",
                f"{found[f'{kind}_after']:.1f}",
                f"{found[f'{kind}_growth_percent']:+.1f}%",
            )
        ]
        lines.append(f"| {role} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(samples: Sequence[Mapping[str, Any]], warm_up: int, path: Path) -> None:
    """PSS of each role over the requests."""
    figure, axis = pyplot.subplots(figsize=(8, 4))
    for role in samples[-1]["mib"]:
        points = [
            (each["requests"], each["mib"][role]["pss"]) for each in samples if role in each["mib"]
        ]
        axis.plot(*zip(*points, strict=True), label=role, linewidth=2 if role == TOTAL else 1.2)
    axis.axvline(warm_up, color="grey", linewidth=0.8, linestyle=":")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("requests answered")
    axis.set_ylabel("MiB (proportional set size)")
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Settings)))
    except (ContestantError, WorkerError) as error:
        sys.exit(f"error: {error}")
