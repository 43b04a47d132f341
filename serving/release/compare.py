"""`serving compare`: a canary beside the stable version, as a table and in words."""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from client.canary import SUFFIX as CANARY_SUFFIX
from client.detect import files as photo_files
from serving.errors import CompareError
from serving.release.comparison import Comparison, Side, compare_models
from serving.release.evaluation import read_evaluation
from serving.release.servers import read_addresses


@dataclass(frozen=True)
class CompareSettings:
    """Compare a canary with the stable version, on photos of yours or on annotated ones."""

    photos: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="PHOTO...", help_behavior_hint=""),
    ] = ()
    """Image files and folders; none are needed with --evaluation."""
    url: str = "127.0.0.1:8001"
    """Host and gRPC port of the running server; a,b,c for several, or @FILE for those in a file,
    one a line."""
    model: str = "ensemble"
    """The stable ensemble; the canary is the one with _canary behind that name."""
    evaluation: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: no mAP)")
    ] = None
    """COCO JSON of annotated photos, as `python -m training coco` writes it."""
    images: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: the file's)")
    ] = None
    """Folder of the annotated photos."""
    json: bool = False
    """Print one JSON document instead of a table."""


def compare(settings: CompareSettings) -> int:
    """Compare and print. Returns 0 even where the canary is worse, 2 for wrong usage.

    Raises:
        ServingError: there is nothing to compare.
    """
    if not settings.photos and settings.evaluation is None:
        print("error: name photos, folders of photos, or --evaluation FILE", file=sys.stderr)
        return 2
    annotated = (
        read_evaluation(settings.evaluation, settings.images) if settings.evaluation else None
    )
    photos = find_photos(settings.photos)
    canary = settings.model + CANARY_SUFFIX
    url = ",".join(read_addresses(settings.url))
    found = compare_models(url, settings.model, canary, photos, annotated)
    print(json.dumps(asdict(found), indent=2) if settings.json else describe_comparison(found))
    return 0


def find_photos(paths: Iterable[Path]) -> list[Path]:
    """The image files among paths and in folders. Raises CompareError where one gives none."""
    files = []
    for path in paths:
        found = photo_files.find_images(path)
        if not all(file.is_file() for file in found):
            raise CompareError(f"{path}: no such file or folder")
        if not found:
            raise CompareError(f"{path}: a folder without images")
        files += found
    return files


def describe_comparison(comparison: Comparison) -> str:
    """A table for people: both sides, their difference, and the same in words."""
    sides = (comparison.stable, comparison.candidate)
    rows = [
        ("", "stable", "canary", "difference"),
        *_list_metric_rows(sides),
        *_list_request_rows(sides),
    ]
    width = max(len(row[0]) for row in rows)
    table = [f"{a:{width}}  {b:>10}  {c:>10}  {d:>10}".rstrip() for a, b, c, d in rows]
    head = f"{sides[0].requests} photos to each of {sides[0].model} and {sides[1].model}"
    return "\n".join([head, *table, "", *_describe_in_words(comparison)])


def _list_metric_rows(sides: tuple[Side, Side]) -> list[tuple[str, str, str, str]]:
    first, second = (side.metrics for side in sides)
    if first is None or second is None:
        return []
    values = [("mAP@0.5", first.map50, second.map50), ("mAP@[.5:.95]", first.map, second.map)]
    values += [
        (f"  {label}, mAP@0.5", pair[0], second.per_class[label][0])
        for label, pair in first.per_class.items()
    ]
    return [_format_row(name, a, b, ".3f") for name, a, b in values]


def _list_request_rows(sides: tuple[Side, Side]) -> list[tuple[str, str, str, str]]:
    counts: list[tuple[str, Callable[[Side], int]]] = [
        ("boxes", lambda side: side.boxes),
        ("failed requests", lambda side: side.failures),
    ]
    times: list[tuple[str, Callable[[Side], float | None]]] = [
        ("latency, median, ms", lambda side: side.latency_ms),
        ("  95th percentile, ms", lambda side: side.p95_ms),
    ]
    first, second = (side.traffic for side in sides)
    return [
        *((name, str(value(sides[0])), str(value(sides[1])), "") for name, value in counts),
        *(_format_row(name, value(sides[0]), value(sides[1]), ".1f") for name, value in times),
        ("requests of others before", str(first.asked), str(second.asked), ""),
        _format_row("  of them failed, %", first.failed_percent, second.failed_percent, ".2f"),
        _format_row("  mean latency in the server, ms", first.latency_ms, second.latency_ms, ".1f"),
    ]


def _format_row(
    name: str, first: float | None, second: float | None, form: str
) -> tuple[str, str, str, str]:
    texts = ["-" if value is None else f"{value:{form}}" for value in (first, second)]
    change = "" if first is None or second is None else f"{second - first:+{form}}"
    return name, texts[0], texts[1], change


def _describe_in_words(comparison: Comparison) -> list[str]:
    """The same in sentences: what to look at before promoting."""
    stable, canary = comparison.stable, comparison.candidate
    lines = []
    if stable.metrics and canary.metrics:
        map50, map_ = (
            _describe_change(getattr(canary.metrics, name) - getattr(stable.metrics, name))
            for name in ("map50", "map")
        )
        lines.append(f"canary: mAP@0.5 {map50}, mAP@[.5:.95] {map_}")
    if comparison.agreement is None:
        lines.append("agreement: no photo was answered by both")
    else:
        lines.append(
            f"agreement: {comparison.agreement:.1%} of the boxes have a partner of the same label "
            f"(IoU 0.5), with scores {_describe_change(comparison.score_change)}"
        )
    lines += [
        f"{name}: {side.failures} of {side.requests} requests failed, first: {side.first_error}"
        for name, side in (("stable", stable), ("canary", canary))
        if side.failures
    ]
    return lines


def _describe_change(difference: float) -> str:
    """A signed difference in words."""
    if abs(difference) < 0.0005:
        return "unchanged"
    return f"{abs(difference):.3f} {'higher' if difference > 0 else 'lower'}"
