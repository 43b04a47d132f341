"""`python -m training COMMAND`: only parses and calls.

Each command's module is imported only when it is asked for: TensorFlow takes seconds to load.
"""

import importlib
import os
import sys

import tyro

from training.errors import TrainingError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up notices

# command: (module, its settings, what it does)
COMMANDS = {
    "check": ("check", "CheckSettings", "say what is in a Pascal VOC folder and what is wrong"),
    "records": ("records", "RecordsSettings", "write a Pascal VOC folder as sharded TFRecords"),
    "train": ("train", "TrainSettings", "train a detector, or continue an interrupted run"),
    "evaluate": ("evaluate", "EvaluateSettings", "mAP of a run, or of a server's detections"),
    "export": ("export", "ExportSettings", "write a run's artifact: SavedModel, ONNX, card"),
    "render": ("smears", "RenderSettings", "render annotated blood smears to try all this with"),
}


def main(arguments: list[str]) -> int:
    if arguments[:1] in ([], ["-h"], ["--help"]):
        print(_usage())
        return 0 if arguments else 2
    command, *rest = arguments
    if command not in COMMANDS:
        print(f"unknown command {command!r}\n\n{_usage()}", file=sys.stderr)
        return 2
    module_name, settings_name, _ = COMMANDS[command]
    module = importlib.import_module(f"training.{module_name}")
    settings = tyro.cli(
        getattr(module, settings_name), args=rest, prog=f"python -m training {command}"
    )
    try:
        return module.run(settings)
    except (TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _usage() -> str:
    rows = [f"  {name:10} {text}" for name, (_, _, text) in COMMANDS.items()]
    return "\n".join(["usage: python -m training COMMAND [--help] ...", "", *rows])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
