"""`python -m training COMMAND`: only parses and calls.

Each command's module is imported only when it is asked for: TensorFlow takes seconds to load.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from training import disk
from training.errors import TrainingError

# command: (module, its settings, what it does)
COMMANDS = {
    "check": ("data.check", "CheckSettings", "say what annotated folders hold and what is wrong"),
    "records": ("data.records", "RecordsSettings", "write annotated folders as sharded TFRecords"),
    "coco": (
        "data.coco_export",
        "CocoSettings",
        "write a split as one COCO JSON, to evaluate with",
    ),
    "fit": ("fit", "FitSettings", "fit default boxes to the data"),
    "train": ("train", "TrainSettings", "train a detector, or continue an interrupted run"),
    "prune": ("prune", "PruneSettings", "make a run's network smaller and faster, to train on"),
    "evaluate": (
        "evaluation.evaluate",
        "EvaluateSettings",
        "mAP of a run, or of a server's detections",
    ),
    "export": ("export.export", "ExportSettings", "write a run's artifact: SavedModel, ONNX, card"),
    "render": (
        "render.smears",
        "RenderSettings",
        "render annotated blood smears to try all this with",
    ),
}
WITHOUT_TENSORFLOW = ("check", "coco", "render")


def main(arguments: list[str]) -> int:
    if arguments[:1] in ([], ["-h"], ["--help"]):
        print(_usage())
        return 0 if arguments else 2
    command, *rest = arguments
    if command not in COMMANDS:
        print(f"unknown command {command!r}\n\n{_usage()}", file=sys.stderr)
        return 2
    try:
        return _run(command, rest)
    except ModuleNotFoundError as error:
        print(
            f"error: the package {error.name} is missing. Training needs its own: "
            ".venv/bin/pip install -c constraints.txt -e '.[training]', "
            "then .venv/bin/python -m training",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if not (isinstance(error, TrainingError | OSError) or disk.is_full(error)):
            raise
        print(f"error: {disk.sentence(error)}", file=sys.stderr)
        return 1


def _run(command: str, arguments: list[str]) -> int:
    module_name, settings_name, _ = COMMANDS[command]
    if command not in WITHOUT_TENSORFLOW:
        start_tensorflow()
    import tyro  # here, so that even its absence is one sentence

    module = importlib.import_module(f"training.{module_name}")
    settings = tyro.cli(
        getattr(module, settings_name), args=arguments, prog=f"python -m training {command}"
    )
    return module.run(settings)


def start_tensorflow() -> None:
    """Import TensorFlow without the notices it writes as it starts and looks for CUDA.

    They come before its log level holds, so the error stream itself is closed to them; set
    TF_CPP_MIN_LOG_LEVEL to see them. `train` says which devices it found.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with _error_stream_closed():
        importlib.import_module("tensorflow").config.list_physical_devices()


@contextlib.contextmanager
def _error_stream_closed() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _usage() -> str:
    rows = [f"  {name:10} {text}" for name, (_, _, text) in COMMANDS.items()]
    return "\n".join(["usage: python -m training COMMAND [--help] ...", "", *rows])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
