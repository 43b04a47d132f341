"""`serving tune`: finds settings for this machine by measuring, and writes them as a variant.

Candidates run in turn in a private server, in rounds, because machines drift; one that is not
better by more than noise is not taken. The repository is only read until the end. The variant
stands beside the configurations, in configs/NAME.pbtxt of the models whose settings differ, and a
server uses it when it is started with --model-config-name NAME.
"""

import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import tyro
from google.protobuf import text_format
from tqdm import tqdm

from serving.cores import usable_cores
from serving.errors import StoreError, TuneError
from serving.model_config import read_text
from serving.repository import DEFAULT_MODEL, Repository, open_repository
from serving.store.address import open_store
from serving.store.base import Store, variant_path
from serving.store.folder import FolderStore
from serving.tuning import candidates
from serving.tuning.candidates import AS_IS, Candidate
from serving.tuning.choice import choose_best, measure_unrest
from serving.tuning.load_generator import RAMP
from serving.tuning.measurement import Bench, Result, find_decoder, find_photos, start_bench
from serving.tuning.report import describe_result, format_table

SAMPLES = Path(__file__).parents[2] / "samples"
MADE = "# Made by `serving tune`"  # how a variant begins that it may replace
ORIGIN = "# The rest is config.pbtxt's; releases change both alike."
NAME = re.compile(r"[A-Za-z0-9_-]+")
ROUNDS = 2
RESTLESS = 0.2  # by which the rounds differ where something else runs
PHOTOS = 100  # at most, so that the load generator holds little
SWITCH_SECONDS = 3.0  # what new processes take, about


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
    repository = open_repository(open_store(settings.repository), settings.model)
    check_place(repository, settings.name)
    photos = settings.photos or (SAMPLES if SAMPLES.is_dir() else None)
    found = find_photos(photos)[:PHOTOS] if photos else None
    results = _search_settings(repository, settings, found)
    print(format_table(results, settings.latency))
    if (spread := measure_unrest(results)) > RESTLESS:
        print(f"the machine was busy: the rounds differ by {spread:.0%}; repeat it when it rests")
    write_best(repository, settings, results)


def check_settings(settings: TuneSettings) -> None:
    """They make sense by themselves.

    Raises:
        TuneError: which one does not.
    """
    if not NAME.fullmatch(settings.name):
        raise TuneError(f"--name must be letters, digits, _ and -, found {settings.name!r}")
    if not settings.seconds > 0:
        raise TuneError(f"--seconds must be more than 0, found {settings.seconds:g}")
    if not settings.latency >= 0:
        raise TuneError(f"--latency must be 0 or more ms, found {settings.latency:g}")


def check_place(repository: Repository, name: str) -> None:
    """The variant can be written: better known before minutes of measuring.

    Raises:
        TuneError: somebody else's variant is there, or the folder is read-only.
    """
    store = repository.store
    for model in (repository.task.network, find_decoder(repository)):
        path = f"{model}/{variant_path(name)}"
        if path in store.files() and not read_text(store, path).startswith(MADE):
            raise TuneError(
                f"{store.address}/{path} was not made by `serving tune`: choose another --name"
            )
        if isinstance(store, FolderStore) and not os.access(Path(store.address) / model, os.W_OK):
            raise TuneError(f"{store.address}/{model} is read-only: the variant has no place")
    with store.lock("tune"):
        pass  # it could be taken, so this place can be written to


def _search_settings(
    repository: Repository, settings: TuneSettings, photos: list[Path] | None
) -> list[list[Result]]:
    """Measure. Returns the results of each step, in each the best of the step before first."""
    models = (repository.task.network, find_decoder(repository))
    configs = [repository.config(model) for model in models]
    cores = usable_cores()
    steps, levels = candidates.plan_steps(cores), candidates.choose_levels(cores)
    runs = sum(len(candidates.keep_distinct([AS_IS, *step(AS_IS)], *configs)) for step in steps) + 2
    seconds = SWITCH_SECONDS + len(levels) * (settings.seconds + RAMP)
    minutes = max(1, round(ROUNDS * runs * seconds / 60))
    print(f"measuring on {cores} cores, for about {minutes} min; Ctrl-C ends it", flush=True)
    best, results = AS_IS, []
    with (
        provide_photos(photos) as files,
        start_bench(repository, settings.name, files) as bench,
        tqdm(total=ROUNDS * runs * len(levels), unit="run", disable=None, leave=False) as bar,
    ):
        for step in steps:
            found = candidates.keep_distinct([best, *step(best)], *configs)
            results.append(_measure_in_rounds(bench, found, levels, settings.seconds, bar))
            best = choose_best(results[-1], settings.latency).candidate
        if best != AS_IS:  # side by side, so that the gain is known
            results.append(_measure_in_rounds(bench, [AS_IS, best], levels, settings.seconds, bar))
    return results


@contextmanager
def provide_photos(given: list[Path] | None) -> Iterator[list[Path]]:
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


def _measure_in_rounds(
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


def write_best(
    repository: Repository, settings: TuneSettings, results: Sequence[Sequence[Result]]
) -> None:
    """Write what is best, if it differs from what is there and meets the target.

    Raises:
        TuneError: nothing meets the target.
    """
    best = choose_best(results[-1], settings.latency)
    level = best.best(settings.latency)
    if level is None:
        raise TuneError(f"no settings work, first: {results[0][0].trouble}; nothing was written")
    if not level.meets(settings.latency):
        raise TuneError(
            f"no settings answer 99 of 100 photos within {settings.latency:g} ms; the nearest: "
            f"{describe_result(best, level)}. Nothing was written"
        )
    print(f"best: {describe_result(best, level)}")
    if best.candidate != AS_IS and (before := results[-1][0].best(settings.latency)):
        print(f"as it is: {describe_result(results[-1][0], before)}")
    header = f"{MADE}: {describe_result(best, level)}, on {usable_cores()} cores.\n{ORIGIN}\n"
    written = write_tuned(repository, best.candidate, settings.name, header)
    command = f"python -m serving up --repository {shlex.quote(settings.repository)}"
    if written:
        print(f"wrote {', '.join(written)}; use it:")
        print(f"  {command} --model-config-name {settings.name}")
    else:
        print(f"the configuration as it is needs no variant:\n  {command}")


def write_tuned(repository: Repository, best: Candidate, name: str, header: str) -> list[str]:
    """Write the variant of each model that it changes, and remove older ones of the others.

    The configurations are read again: they may have changed while we measured. Returns the paths
    of the files that were written.
    """
    decoder = find_decoder(repository)
    changes = {repository.task.network: best.tune_network, decoder: best.tune_decoder}
    with repository.store.lock("tune"):
        texts = {}
        for model, change in changes.items():
            config = repository.config(model)
            before = str(config)
            change(config)
            text = (header + text_format.MessageToString(config)).encode()
            texts[f"{model}/{variant_path(name)}"] = None if str(config) == before else text
        _replace_files(repository.store, texts)
    return [path for path, content in texts.items() if content is not None]


def _replace_files(store: Store, files: Mapping[str, bytes | None]) -> None:
    """Write files, remove those that are None; all of them or, if that fails, none."""
    there = store.files()
    before = {path: store.read(path) if path in there else None for path in files}
    try:
        _put_files(store, files)
    except BaseException:  # Ctrl-C as well
        with suppress(StoreError):  # the first one says why
            _put_files(store, before)
        raise


def _put_files(store: Store, files: Mapping[str, bytes | None]) -> None:
    """Write files, remove those that are None."""
    for path, content in files.items():
        if content is not None:
            store.write(path, content)
        elif path in store.files():
            store.remove(path)
