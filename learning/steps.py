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
        advice: what a person may do about a refusal.
        hours: how long it may take in one go; None: as long as it likes.
    """

    name: str
    purpose: str
    command: tuple[str, ...]
    made: Path | None = None
    refuses: int = REFUSED
    passes: tuple[int, ...] = (0,)
    was_done: Callable[[], bool] = _never
    advice: str = ""
    hours: float | None = None


def plan_steps(settings: RunSettings, current: Round) -> list[Step]:
    """All steps of a round, in their order."""
    description = read_json(Path(current.begun["start"]) / "run.json")
    labels = ("--labels", *description["labels"])
    artifact, new = current.folder / "artifact", current.folder / "new.json"
    check = Step(
        "check",
        "Check: what came into the inbox, and what is wrong with it",
        ("training", "check", str(current.folder / "inbox"), *labels),
        refuses=1,
    )
    return [
        check,
        *_vet_steps(settings, current),
        *_data_steps(settings, current, labels, new),
        *_training_steps(settings, current, description, artifact),
        *_release_steps(settings, artifact, new),
    ]


def _data_steps(
    settings: RunSettings, current: Round, labels: tuple[str, ...], new: Path
) -> Iterator[Step]:
    """What is learned from, and what of the inbox is held out."""
    inbox, records = str(current.folder / "inbox"), str(current.folder / "records")
    options = (*labels, "--frozen", str(settings.test))
    yield Step(
        "records",
        "Records: what came, and the photos so far",
        ("training", "records", inbox, *map(str, settings.data), "--output", records, *options),
    )
    yield Step(
        "new",
        "New: the photos of the inbox that are held out, to measure on",
        ("training", "coco", inbox, "--output", str(new), *options),
        made=new,
    )


def _training_steps(
    settings: RunSettings, current: Round, description: dict[str, Any], artifact: Path
) -> Iterator[Step]:
    """From the run behind the live version to an artifact."""
    start, records = current.begun["start"], str(current.folder / "records")
    where = ("--output", str(current.run), "--pretrained", start)
    epochs = ("--epochs", str(settings.epochs)) if settings.epochs else ()
    yield Step(
        "train",
        f"Train: from {start}, the run behind live version {current.begun['live']}",
        ("training", "train", records, *where, *_take_over(description), *epochs),
        hours=settings.hours,
    )
    exporting = ("--output", str(artifact), "--precision", settings.precision)
    yield Step(
        "export",
        f"Export: {settings.precision}",
        ("training", "export", str(current.run), *exporting),
        made=artifact,
    )


def _vet_steps(settings: RunSettings, current: Round) -> Iterator[Step]:
    """What came, judged by the live network beside the photos so far; too few tell nothing."""
    begun, live, pictures = current.begun, current.folder / "live", current.folder / "pictures"
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
        (*arrived, *trusted, *limits, "--pictures", str(pictures)),
        made=pictures,
        passes=(0, 4),
        advice=f" Look at {pictures}: if those boxes are right, it is the live network that is "
        "wrong about them, as after a change of camera or stain; then give a higher --more.",
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
