"""The steps of a round, each a command of another folder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learning.files import read_json
from learning.released import find_fate
from learning.round import REFUSED, Round
from learning.settings import RunSettings

# What a round's training takes over from the run that it starts from.
RECIPE = (
    "input_size",
    "resize",
    "default_boxes",
    "batch_size",
    "learning_rate",
    "photometric",
    "vertical_flip",
    "freeze",
)


def _never() -> bool:
    """No other command did a step before."""
    return False


@dataclass(frozen=True)
class Step:
    """One of the steps.

    Attributes:
        name: of its files.
        purpose: in words.
        command: what stands behind `python -m`.
        made: what it leaves, removed before it is taken once more; None where it goes on by itself.
        refuses: the exit code with which it ends the round.
        passes: those with which the next step follows.
        was_done: whether a killed command had done it all the same.
    """

    name: str
    purpose: str
    command: tuple[str, ...]
    made: Path | None = None
    refuses: int = REFUSED
    passes: tuple[int, ...] = (0,)
    was_done: Callable[[], bool] = _never


def plan_steps(settings: RunSettings, current: Round) -> list[Step]:
    """All steps of a round, in their order."""
    folder, start = current.folder, Path(current.begun["start"])
    description = read_json(start / "run.json")
    labels = ("--labels", *description["labels"])
    inbox, records, artifact = (folder / name for name in ("inbox", "records", "artifact"))
    new = folder / "new.json"
    merged = (str(inbox), *map(str, settings.data))
    frozen = ("--frozen", str(settings.test))
    exporting = ("--output", str(artifact), "--precision", settings.precision)
    return [
        Step(
            "check",
            "Check: what came into the inbox, and what is wrong with it",
            ("training", "check", str(inbox), *labels),
            refuses=1,
        ),
        *_vet_steps(settings, current),
        Step(
            "records",
            "Records: what came, and the photos so far",
            ("training", "records", *merged, "--output", str(records), *labels, *frozen),
        ),
        Step(
            "new",
            "New: the photos of the inbox that are held out, to measure on",
            ("training", "coco", str(inbox), "--output", str(new), *labels, *frozen),
            made=new,
        ),
        Step(
            "train",
            f"Train: from {start}, the run behind live version {current.begun['live']}",
            ("training", "train", str(records), "--output", str(current.run))
            + ("--pretrained", str(start), *_take_over(description))
            + (("--epochs", str(settings.epochs)) if settings.epochs else ()),
        ),
        Step(
            "export",
            f"Export: {settings.precision}",
            ("training", "export", str(current.run), *exporting),
            made=artifact,
        ),
        *_release_steps(settings, artifact, new),
    ]


def _vet_steps(settings: RunSettings, current: Round) -> Iterator[Step]:
    """What came, judged by the live network beside the photos so far; too few tell nothing."""
    begun, live = current.begun, current.folder / "live"
    if not settings.data or not begun["arrived"]:
        return
    yield Step(
        "live",
        f"Live: the network of version {begun['live']}, to judge what came by",
        ("training", "export", begun["start"], "--output", str(live)),
        made=live,
    )
    # It was trained on what is corrected once more, which is no copy for that.
    copies = min(1.0, settings.copies + begun["changed"] / begun["arrived"])
    trusted = ("--trusted", *map(str, settings.data), "--frozen", str(settings.test))
    limits = ("--copies", f"{copies:.2f}", "--more", str(settings.more))
    arrived = ("training", "vet", str(current.folder / "arrived"), "--artifact", str(live))
    yield Step(
        "vet",
        "Vet: whether what came can be believed",
        (*arrived, *trusted, *limits),
        passes=(0, 4),
    )


def _release_steps(settings: RunSettings, artifact: Path, new: Path) -> Iterator[Step]:
    """A canary and its judge where there is a Prometheus, else the gate alone."""
    where = ("--repository", settings.repository, "--model", settings.model, *_address(settings))
    sets = ("--evaluation", str(settings.test), "--evaluation", str(new))
    measured = (*sets, "--map-tolerance", str(settings.map_tolerance))
    if not settings.prometheus:
        yield Step(
            "publish",
            "Publish: measured beside the live version, and live if it is no worse",
            ("serving", "publish", str(artifact), *where, *measured),
            was_done=lambda: find_fate(settings, artifact).version is not None,
        )
        return
    yield Step(
        "canary",
        "Canary: measured beside the live version, then served to some clients",
        ("serving", "canary", str(artifact), "--share", str(settings.share), *where, *measured),
        was_done=lambda: find_fate(settings, artifact).version is not None,
    )
    judging = ("--prometheus", settings.prometheus, "--watch", settings.watch)
    yield Step(
        "judge",
        f"Judge: the canary is watched for {settings.watch}",
        ("serving", "judge", *where, *judging, *measured),
        was_done=lambda: find_fate(settings, artifact).state != "canary",
    )


def _address(settings: RunSettings) -> tuple[str, ...]:
    return ("--url", settings.url) if settings.url else ()


def _take_over(description: dict[str, Any]) -> tuple[str, ...]:
    """Options for the recipe of an earlier run."""
    told: dict[str, Any] = {"preset": description["preset"]["name"]}
    settings = description.get("settings", {})
    told |= {name: settings[name] for name in RECIPE if settings.get(name) is not None}
    return tuple(word for name, value in told.items() for word in _option(name, value))


def _option(name: str, value: Any) -> tuple[str, ...]:
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return (f"--{name}" if value else f"--no-{name}",)
    return f"--{name}", str(value)
