"""From annotated photos to an artifact: Pascal VOC -> TFRecord -> SSD -> evaluation -> export.

The folder ends at an artifact (`export.py` says what is in one) and knows nothing of serving.

For notebooks and programs it has the functions behind the commands, each with its settings, which
are the command's options:

    from pathlib import Path
    from training import RunSettings, run_photos

    run_photos(RunSettings((Path("data/photos"),), output=Path("artifacts/mine")))

They print what the commands print, and give the exit code; `check_folders` gives 1 where it found a
problem. Beside them stand three that give values: `load_manifest`, `load_onnx`, `measure_network`.
All raise `TrainingError`, whose message is a sentence, where what they are given cannot be used.
Names are imported when they are asked for: TensorFlow takes seconds to load.
"""

import importlib
from typing import TYPE_CHECKING, Any

from training import startup

if TYPE_CHECKING:
    from training.data.check import CheckSettings, check_folders
    from training.data.records import load_manifest
    from training.data.records_writer import RecordsSettings, write_records
    from training.errors import TrainingError
    from training.evaluation.evaluate import EvaluateSettings, evaluate_detector
    from training.evaluation.measure import measure_network
    from training.export.export import ExportSettings, export_run
    from training.network.onnx_network import load_onnx
    from training.pipeline.run import run_photos
    from training.pipeline.settings import RunSettings
    from training.render.smears import RenderSettings, render_smears
    from training.settings import TrainSettings
    from training.train import train_detector

__all__ = [
    "CheckSettings",
    "EvaluateSettings",
    "ExportSettings",
    "RecordsSettings",
    "RenderSettings",
    "RunSettings",
    "TrainSettings",
    "TrainingError",
    "check_folders",
    "evaluate_detector",
    "export_run",
    "load_manifest",
    "load_onnx",
    "measure_network",
    "render_smears",
    "run_photos",
    "train_detector",
    "write_records",
]

_MODULES = {
    "data.check": ("CheckSettings", "check_folders"),
    "data.records": ("load_manifest",),
    "data.records_writer": ("RecordsSettings", "write_records"),
    "errors": ("TrainingError",),
    "evaluation.evaluate": ("EvaluateSettings", "evaluate_detector"),
    "evaluation.measure": ("measure_network",),
    "export.export": ("ExportSettings", "export_run"),
    "network.onnx_network": ("load_onnx",),
    "pipeline.run": ("run_photos",),
    "pipeline.settings": ("RunSettings",),
    "render.smears": ("RenderSettings", "render_smears"),
    "settings": ("TrainSettings",),
    "train": ("train_detector",),
}
_WITHOUT_TENSORFLOW = ("data.check", "errors", "render.smears")


if not TYPE_CHECKING:  # a type checker would believe every name to be there

    def __getattr__(name: str) -> Any:
        """A name of `__all__`, from the module that has it (PEP 562)."""
        for module, names in _MODULES.items():
            if name in names:
                if module not in _WITHOUT_TENSORFLOW:
                    startup.start_tensorflow()
                return getattr(importlib.import_module(f"training.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
