"""Images a second of the training step, of the input pipeline, and of a plain Keras `fit`.

    python benchmarks/training_speed.py data/records --before ecd4d9c

All contestants live at once, each in a process of its own, and take turns, so that a machine that
is slower for a minute is so for all. `fit` trains the same network on tensors that lie ready, with
a mean squared error in place of the detection loss: the bound. `train` is the step on what the
pipeline delivers meanwhile, as in a run. `--before COMMIT` adds the pipeline and the step of an
older commit, from a checkout made for it.
"""

import contextlib
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro

BATCH_SIZE = 16
STEPS = 6  # a turn
PRECISIONS = ("float32", "bfloat16")
ROOT = Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Settings:
    """Measure the compact preset's training, side by side."""

    records: Annotated[Path, tyro.conf.Positional]
    """Folder that `training records` wrote, with the split train."""
    default_boxes: Path | None = None
    """File that `training fit` wrote; for all contestants but the older commit's."""
    before: str | None = None
    """Commit to compare with; none given: no comparison."""
    rounds: int = 10
    """Turns of each contestant."""
    output: Path | None = None
    """JSON file to write the figures to."""


# ------------------------------------------------------------- one contestant, in its own process


def contestant(name: str, records_folder: str, default_boxes: str) -> None:
    """Answers each line on stdin with the images a second of one turn."""
    turn = {"step": _step, "train": _train, "input": _input, "fit": _fit}[name.split()[0]]
    take = turn(name, Path(records_folder), Path(default_boxes) if default_boxes else None)
    take()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(take(), flush=True)


def _rate(steps: int, run: Callable[[], object]) -> float:
    """Images a second of so many batches."""
    start = time.perf_counter()
    run()
    return steps * BATCH_SIZE / (time.perf_counter() - start)


def _drain(batches: Iterator[object]) -> None:
    """Takes what the pipeline made ready while others had their turn."""
    for _ in range(4):
        next(batches)


def _trainer(name: str, folder: Path, default_boxes: Path | None) -> Any:
    """A trainer of this commit or, for `--before`, of one whose `train` still held it."""
    import tensorflow as tf

    from training.data import records
    from training.network import presets
    from training.schedule import plan_schedule
    from training.settings import TrainSettings
    from training.trainer import Trainer

    preset, options = presets.SSD_COMPACT, dict[str, Any]()
    if "before" not in name:
        from training.fitted_boxes import load_fitted

        options = {"precision": name.split()[-1]}
        preset = load_fitted(default_boxes, preset) if default_boxes else preset
    settings = TrainSettings(
        folder, Path(tempfile.mkdtemp()), batch_size=BATCH_SIZE, evaluate_every=0, **options
    )
    manifest = records.load_manifest(folder, "train")
    schedule = plan_schedule(settings, preset, manifest.count)
    return Trainer(settings, preset, schedule, manifest, tf.distribute.get_strategy())


def _step(name: str, folder: Path, default_boxes: Path | None) -> Callable[[], float]:
    trainer = _trainer(name, folder, default_boxes)
    batch = next(iter(trainer._batches(skip=0)))

    def steps() -> None:
        for _ in range(STEPS):
            losses = trainer.train_step(batch)
        float(losses["loss"])

    return lambda: _rate(STEPS, steps)


def _train(name: str, folder: Path, default_boxes: Path | None) -> Callable[[], float]:
    trainer = _trainer(name, folder, default_boxes)
    batches = iter(trainer._batches(skip=0))

    def steps() -> None:
        for _ in range(STEPS):
            losses = trainer.train_step(next(batches))
        float(losses["loss"])

    def take() -> float:
        _drain(batches)
        return _rate(STEPS, steps)

    return take


def _input(name: str, folder: Path, default_boxes: Path | None) -> Callable[[], float]:
    from training.data import records
    from training.input import input_pipeline
    from training.network import presets

    preset = presets.SSD_COMPACT
    if default_boxes and "before" not in name:
        from training.fitted_boxes import load_fitted

        preset = load_fitted(default_boxes, preset)
    batches = iter(
        input_pipeline.training_batches(
            records.load_manifest(folder, "train"), preset, batch_size=BATCH_SIZE, seed=0,
            vertical_flip=True,
        )
    )  # fmt: skip

    def take() -> float:
        _drain(batches)
        return _rate(4 * STEPS, lambda: [next(batches) for _ in range(4 * STEPS)])

    return take


def _fit(name: str, folder: Path, default_boxes: Path | None) -> Callable[[], float]:
    import keras
    import numpy as np
    import tensorflow as tf

    trainer = _trainer(name, folder, default_boxes)
    network, (images, *_) = trainer.network, next(iter(trainer._batches(skip=0)))
    targets = {
        k: np.zeros((BATCH_SIZE, *x.shape[1:]), np.float32) for k, x in network.output.items()
    }
    network.compile(
        keras.optimizers.AdamW(1e-3), dict.fromkeys(targets, "mse"), jit_compile=False
    )  # XLA is slower on a CPU
    data = tf.data.Dataset.from_tensors((images, targets)).repeat(STEPS)
    return lambda: _rate(STEPS, lambda: network.fit(data, verbose=0))


# ----------------------------------------------------------------------------------- the comparison


def main(settings: Settings) -> None:
    names = ["input now"]
    names += [f"{kind} now {p}" for p in PRECISIONS for kind in ("train", "step", "fit")]
    names += ["input before", "step before float32"] * bool(settings.before)
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(_checkout(settings.before)) if settings.before else ROOT
        running = {
            name: stack.enter_context(_start(name, old if "before" in name else ROOT, settings))
            for name in names
        }
        for name, process in running.items():
            _answer(name, process)
        turns: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(settings.rounds):
            for name, process in running.items():
                turns[name].append(float(_answer(name, process, ask=True)))
    print(_table(turns))
    if settings.output:
        machine = {"machine": platform.machine(), "cpus": os.cpu_count(), "batch_size": BATCH_SIZE}
        settings.output.write_text(
            json.dumps(machine | {"images_per_second": turns}, indent=1) + "\n"
        )


@contextlib.contextmanager
def _checkout(commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", commit], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


@contextlib.contextmanager
def _start(name: str, code: Path, settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """This file again, with the training package of `code`."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), "--contestant", name,
         str(settings.records.resolve()),
         str(settings.default_boxes.resolve()) if settings.default_boxes else ""],
        cwd=code, env=os.environ | {"PYTHONPATH": str(code), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _answer(name: str, process: subprocess.Popen[str], ask: bool = False) -> str:
    assert process.stdin
    assert process.stdout
    if ask:
        process.stdin.write("\n")
        process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"the contestant `{name}` ended")
    return line


def _table(turns: dict[str, list[float]]) -> str:
    lines = ["| | images/s, median | lowest to highest |", "|---|---|---|"]
    for name, values in turns.items():
        median = statistics.median(values)
        lines.append(f"| {name} | {median:.1f} | {min(values):.1f} to {max(values):.1f} |")
    for precision in PRECISIONS:
        train, step = (
            statistics.median(turns[f"{kind} now {precision}"]) for kind in ("train", "step")
        )
        supply = statistics.median(turns["input now"]) / step
        lines.append(
            f"\n{precision}: the step takes {train / step:.0%} of a run's time; the pipeline alone "
            f"delivers {supply:.1f} times what it uses"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        contestant(*sys.argv[2:])
    else:
        main(tyro.cli(Settings))
