"""`serving tune`: finds settings for this machine by measuring, and writes them as a variant.

Candidates run in turn in a private server, in rounds, because machines drift; one that is not
better by MARGIN is not taken. The repository is only read until the end. The variant stands beside
the configurations, in configs/NAME.pbtxt of the models whose settings differ, and a server uses it
when it is started with --model-config-name NAME.
"""

import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import cv2
import numpy as np
import tyro
from google.protobuf import text_format
from tqdm import tqdm

from serving.cores import usable_cores
from serving.errors import StoreError, TuneError
from serving.repository import DEFAULT_MODEL, Task, read_config, read_task, read_text
from serving.store.address import open_store
from serving.store.base import Store, variant_path
from serving.store.folder import FolderStore
from serving.tuning import candidates
from serving.tuning.candidates import AS_IS, Candidate
from serving.tuning.load_generator import RAMP
from serving.tuning.measurement import (
    Bench,
    Level,
    Result,
    decoder_of,
    find_photos,
    private_bench,
)

SAMPLES = Path(__file__).parents[2] / "samples"
MADE = "# Made by `serving tune`"  # how a variant begins that it may replace
ORIGIN = "# The rest is config.pbtxt's; releases change both alike."
NAME = re.compile(r"[A-Za-z0-9_-]+")
ROUNDS = 2
MARGIN = 0.03  # of the throughput; less is noise
RESTLESS = 0.2  # by which the rounds differ where something else runs
PHOTOS = 100  # at most, so that the load generator holds little
SWITCH_SECONDS = 3.0  # what new processes take, about
COLUMNS = ["instances", "threads", "preprocess", "batches"]
COLUMNS += ["at once", "photos/s", "p50 ms", "p99 ms", "MiB", ""]


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """Find instances, threads and batches for this machine by measuring, and write them."""

    repository: str = "model_repository"
    """Model repository: a folder, or an address such as s3://bucket/models."""
    model: str = DEFAULT_MODEL
    """The task's ensemble, the model that takes photos."""
    photos: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(default: samples/)")] = None
    """Folder of photos like those that will be sent: their size matters."""
    latency: float = 0.0
    """99 of 100 photos must be answered within so many ms; 0: most photos a second, no limit."""
    seconds: float = 1.5
    """Length of each measurement, in seconds."""
    name: str = "tuned"
    """Name of the variant that is written."""


def tune(settings: TuneSettings) -> None:
    """Measure and write. Prints what was found.

    Raises:
        ServingError: no settings were found; nothing was written.
    """
    check_settings(settings)
    store = open_store(settings.repository)
    task = read_task(store, settings.model)
    check_place(store, task, settings.name)
    photos = settings.photos or (SAMPLES if SAMPLES.is_dir() else None)
    found = find_photos(photos)[:PHOTOS] if photos else None
    results = search(store, task, settings, found)
    print(table(results, settings.latency))
    if (spread := unrest(results)) > RESTLESS:
        print(f"the machine was busy: the rounds differ by {spread:.0%}; repeat it when it rests")
    conclude(store, task, settings, results)


def check_settings(settings: TuneSettings) -> None:
    """They make sense by themselves."""
    if not NAME.fullmatch(settings.name):
        raise TuneError(f"--name must be letters, digits, _ and -, found {settings.name!r}")
    if not settings.seconds > 0:
        raise TuneError(f"--seconds must be more than 0, found {settings.seconds:g}")
    if not settings.latency >= 0:
        raise TuneError(f"--latency must be 0 or more ms, found {settings.latency:g}")


def check_place(store: Store, task: Task, name: str) -> None:
    """The variant can be written: better known before minutes of measuring."""
    for model in (task.network, decoder_of(store, task)):
        path = f"{model}/{variant_path(name)}"
        if path in store.files() and not read_text(store, path).startswith(MADE):
            raise TuneError(
                f"{store.address}/{path} was not made by `serving tune`: choose another --name"
            )
        if isinstance(store, FolderStore) and not os.access(Path(store.address) / model, os.W_OK):
            raise TuneError(f"{store.address}/{model} is read-only: the variant has no place")
    with store.lock("tune"):
        pass  # it could be taken, so this place can be written to


def search(
    store: Store, task: Task, settings: TuneSettings, photos: list[Path] | None
) -> list[list[Result]]:
    """Measure. Returns the results of each step, in each the best of the step before first."""
    configs = [read_config(store, model) for model in (task.network, decoder_of(store, task))]
    cores = usable_cores()
    steps, levels = candidates.steps(cores), candidates.levels(cores)
    runs = sum(len(candidates.distinct([AS_IS, *step(AS_IS)], *configs)) for step in steps) + 2
    seconds = SWITCH_SECONDS + len(levels) * (settings.seconds + RAMP)
    minutes = max(1, round(ROUNDS * runs * seconds / 60))
    print(f"measuring on {cores} cores, for about {minutes} min; Ctrl-C ends it", flush=True)
    best, results = AS_IS, []
    with (
        photo_files(photos) as files,
        private_bench(store, task, settings.name, files) as bench,
        tqdm(total=ROUNDS * runs * len(levels), unit="run", leave=False) as bar,
    ):
        for step in steps:
            found = candidates.distinct([best, *step(best)], *configs)
            results.append(compare(bench, found, levels, settings.seconds, bar))
            best = choose(results[-1], settings.latency).candidate
        if best != AS_IS:  # side by side, so that the gain is known
            results.append(compare(bench, [AS_IS, best], levels, settings.seconds, bar))
    return results


@contextmanager
def photo_files(given: list[Path] | None) -> Iterator[list[Path]]:
    """The photos, else generated ones of a common size: 640 x 480, smooth and noisy."""
    if given:
        yield given
        return
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="photos-") as folder:
        paths = [Path(folder) / f"{number}.jpg" for number in range(4)]
        for path in paths:
            coarse = random.integers(0, 256, (30, 40, 3), np.uint8)
            smooth = cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
            noisy = cv2.add(smooth, random.integers(0, 16, smooth.shape, np.uint8))
            path.write_bytes(bytes(cv2.imencode(".jpg", noisy)[1]))
        yield paths


def compare(
    bench: Bench,
    found: Sequence[Candidate],
    levels: Sequence[int],
    seconds: float,
    bar: "tqdm[Any]",
) -> list[Result]:
    """Measure candidates side by side: in rounds, each the other way round than the one before."""
    results = [Result(candidate) for candidate in found]
    for number in range(ROUNDS):
        for result in results[:: -1 if number % 2 else 1]:
            bench.apply(result)
            for level in levels:
                bar.set_description(f"{' / '.join(result.words)}, {level} at once")
                bench.measure(result, level, seconds)
                bar.update()
    return results


def choose(results: Sequence[Result], latency: float) -> Result:
    """The best; of those that do not differ by more than noise the first."""
    best = results[0]
    for result in results[1:]:
        if is_better(result.best(latency), best.best(latency), latency):
            best = result
    return best


def unrest(results: Sequence[Sequence[Result]]) -> float:
    """By how much the throughput of the same settings differs between rounds, as a rule."""
    spreads = []
    for samples in (each for step in results for one in step for each in one.samples.values()):
        counts = [len(sample.latencies) for sample in samples]
        spreads.append((max(counts) - min(counts)) / max(1, max(counts)))
    return median(spreads) if spreads else 0.0


def is_better(new: Level | None, old: Level | None, latency: float) -> bool:
    """Whether one is better than another by more than noise."""
    if new is None or old is None:
        return new is not None
    if new.meets(latency) != old.meets(latency):
        return new.meets(latency)
    if new.meets(latency):
        return new.throughput > old.throughput * (1 + MARGIN)
    return new.p99 < old.p99 * (1 - MARGIN)


def conclude(
    store: Store, task: Task, settings: TuneSettings, results: Sequence[Sequence[Result]]
) -> None:
    """Write what is best, if it differs from what is there and meets the target.

    Raises:
        TuneError: nothing meets the target.
    """
    best = choose(results[-1], settings.latency)
    level = best.best(settings.latency)
    if level is None:
        raise TuneError(f"no settings work, first: {results[0][0].trouble}; nothing was written")
    if not level.meets(settings.latency):
        raise TuneError(
            f"no settings answer 99 of 100 photos within {settings.latency:g} ms; the nearest: "
            f"{in_words(best, level)}. Nothing was written"
        )
    print(f"best: {in_words(best, level)}")
    if best.candidate != AS_IS and (before := results[-1][0].best(settings.latency)):
        print(f"as it is: {in_words(results[-1][0], before)}")
    header = f"{MADE}: {in_words(best, level)}, on {usable_cores()} cores.\n{ORIGIN}\n"
    written = write(store, task, best.candidate, settings.name, header)
    command = f"python -m serving up --repository {shlex.quote(settings.repository)}"
    if written:
        print(f"wrote {', '.join(written)}; use it:")
        print(f"  {command} --model-config-name {settings.name}")
    else:
        print(f"the configuration as it is needs no variant:\n  {command}")


def in_words(result: Result, level: Level) -> str:
    """Settings and what they gave, as part of a sentence."""
    instances, threads, decoders, batches = result.words
    return (
        f"{instances} instances, threads {threads}, {decoders} of preprocess, batches {batches}: "
        f"{level.throughput:.1f} photos/s, p99 {level.p99:.1f} ms with {level.concurrency} at once"
    )


def table(results: Sequence[Sequence[Result]], latency: float) -> str:
    """A line for each candidate of each step, at the load that suits it best."""
    lines = [tuple(COLUMNS)]
    for step in results:
        best = choose(step, latency)
        lines += [row(result, latency, result is best) for result in step] + [("",) * len(COLUMNS)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS) - 1)]
    padded = ([*map(str.rjust, line, widths), line[-1]] for line in lines[:-1])
    return "\n".join("  ".join(line).rstrip() for line in padded)


def row(result: Result, latency: float, is_best: bool) -> tuple[str, ...]:
    """One line of the table."""
    level = result.best(latency)
    words = result.words or ("-",) * 4
    note = "as it is" if result.candidate == AS_IS else ""
    if level is None:
        return (*words, *("-",) * 5, result.trouble or note)
    note += ", best of these" if note and is_best else "best of these" if is_best else ""
    note += f" ({level.failures} failed)" if level.failures else ""
    numbers = (level.throughput, level.p50, level.p99)
    shown = (str(level.concurrency), *(f"{n:.1f}" for n in numbers), f"{result.memory:.0f}")
    return (*words, *shown, note)


def write(store: Store, task: Task, best: Candidate, name: str, header: str) -> list[str]:
    """Write the variant of each model that it changes, and remove older ones of the others.

    The configurations are read again: they may have changed while we measured.
    """
    changes = {task.network: best.tune_network, decoder_of(store, task): best.tune_decoder}
    with store.lock("tune"):
        texts = {}
        for model, change in changes.items():
            config = read_config(store, model)
            before = str(config)
            change(config)
            text = (header + text_format.MessageToString(config)).encode()
            texts[f"{model}/{variant_path(name)}"] = None if str(config) == before else text
        replace_all(store, texts)
    return [path for path, content in texts.items() if content is not None]


def replace_all(store: Store, files: Mapping[str, bytes | None]) -> None:
    """Write files, remove those that are None; all of them or, if that fails, none."""
    there = store.files()
    before = {path: store.read(path) if path in there else None for path in files}
    try:
        put(store, files)
    except BaseException:  # Ctrl-C as well
        with suppress(StoreError):  # the first one says why
            put(store, before)
        raise


def put(store: Store, files: Mapping[str, bytes | None]) -> None:
    """Write files, remove those that are None."""
    for path, content in files.items():
        if content is not None:
            store.write(path, content)
        elif path in store.files():
            store.remove(path)
