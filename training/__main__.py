"""`python -m training COMMAND`: only parses and calls.

Each command's module is imported only when it is asked for: TensorFlow takes seconds to load.
"""

import importlib
import sys
from typing import NamedTuple

from training import disk, startup
from training.errors import TrainingError


class Command(NamedTuple):
    """Where a command's function and settings are, and what it does."""

    module: str
    function: str
    settings: str
    purpose: str


COMMANDS = {
    "run": Command(
        "pipeline.run",
        "run_photos",
        "RunSettings",
        "do all of the below for you, from photos to what can be served",
    ),
    "check": Command(
        "data.check",
        "check_folders",
        "CheckSettings",
        "say what annotated folders hold and what is wrong",
    ),
    "records": Command(
        "data.records_writer",
        "write_records",
        "RecordsSettings",
        "write annotated folders as sharded TFRecords",
    ),
    "coco": Command(
        "data.coco_export",
        "write_coco",
        "CocoSettings",
        "write a split as one COCO JSON, to evaluate with",
    ),
    "fit": Command("fit", "fit_default_boxes", "FitSettings", "fit default boxes to the data"),
    "train": Command(
        "train",
        "train_detector",
        "TrainSettings",
        "train a detector, or continue an interrupted run",
    ),
    "find-rate": Command(
        "find_rate",
        "find_rate",
        "FindRateSettings",
        "suggest a learning rate, with a picture of the loss over it",
    ),
    "runs": Command("runs", "list_runs", "RunsSettings", "list runs, with what each came to"),
    "compare": Command(
        "comparison.compare",
        "compare_runs",
        "CompareSettings",
        "say in what two runs differ, and on which photos",
    ),
    "prune": Command(
        "prune",
        "prune_run",
        "PruneSettings",
        "make a run's network smaller and faster, to train on",
    ),
    "evaluate": Command(
        "evaluation.evaluate",
        "evaluate_detector",
        "EvaluateSettings",
        "mAP of a run, or of a server's detections",
    ),
    "export": Command(
        "export.export",
        "export_run",
        "ExportSettings",
        "write a run's artifact: SavedModel, ONNX, card",
    ),
    "vet": Command(
        "vetting.vet",
        "vet_photos",
        "VetSettings",
        "say whether new annotations can be believed, or are swapped, shifted or copies",
    ),
    "prelabel": Command(
        "labelling.prelabel",
        "prelabel_photos",
        "PrelabelSettings",
        "write a model's boxes for photos, to correct instead of to draw",
    ),
    "select": Command(
        "labelling.select",
        "select_photos",
        "SelectSettings",
        "choose the photos that are worth labelling first",
    ),
    "render": Command(
        "render.smears",
        "render_smears",
        "RenderSettings",
        "render annotated blood smears to try all this with",
    ),
}
WITHOUT_TENSORFLOW = ("check", "coco", "render")
WITH_FILE = ("run", "train", "find-rate")  # that settings may come from


def main(arguments: list[str]) -> int:
    if arguments[:1] in ([], ["-h"], ["--help"]):
        print(_usage())
        return 0 if arguments else 2
    command, *rest = arguments
    if command not in COMMANDS:
        print(f"unknown command {command!r}\n\n{_usage()}", file=sys.stderr)
        return 2
    try:
        return _run_command(command, rest)
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
        return error.exit_code if isinstance(error, TrainingError) else 1


def _run_command(name: str, arguments: list[str]) -> int:
    command = COMMANDS[name]
    if name not in WITHOUT_TENSORFLOW:
        startup.start_tensorflow()
    import tyro  # here, so that even its absence is one sentence

    module = importlib.import_module(f"training.{command.module}")
    prog = f"python -m training {name}"
    kind = getattr(module, command.settings)
    if name in WITH_FILE:
        parser = importlib.import_module("training.settings_file")
        settings = parser.parse_settings(arguments, prog, kind)
    else:
        settings = tyro.cli(kind, args=arguments, prog=prog)
    return getattr(module, command.function)(settings)


def _usage() -> str:
    rows = [f"  {name:10} {command.purpose}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: python -m training COMMAND [--help] ...", "", *rows])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
