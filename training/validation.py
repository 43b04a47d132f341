"""mAP on the val split while a network trains, and the report at its end."""

import keras
from tqdm import tqdm

from training import run_folder
from training.data import records
from training.data.trained_on import TrainedOn
from training.evaluation import measure, report, score, summaries
from training.evaluation.findings import Findings
from training.network.model import Detector
from training.network.presets import Preset
from training.settings import TrainSettings


class Validation:
    """A val split that has something to measure, and the network that is measured on it."""

    def __init__(
        self,
        settings: TrainSettings,
        val: records.Manifest,
        truth: list[score.Truth],
        network: keras.Model,
        preset: Preset,
        trained_on: TrainedOn,
    ) -> None:
        self.output, self.val, self.truth = settings.output, val, truth
        self.preset, self.trained_on = preset, trained_on
        self.detect = measure.detection_step(
            Detector(network, preset), preset.iou_threshold, preset.voting_iou
        )

    def measure(self) -> Findings:
        """What the network detects now. Every worker does it, because reading a mirrored variable
        may need all of them."""
        preset = self.preset
        detected = measure.detect_objects(self.detect, self.val, preset.input_size, preset.resize)
        metrics = score.score_detections(self.truth, detected, self.val.labels)
        metrics = measure.label_metrics(metrics, self.val, self.trained_on)
        return Findings.of(self.val, self.truth, detected, metrics)

    def write(self, found: Findings, epoch: int, step: int) -> None:
        """Print the figures, and write them into metrics.json and for TensorBoard."""
        tqdm.write(f"epoch {epoch}\n{score.metrics_table(found.metrics)}")
        document = {"epoch": epoch, "step": step} | found.facts
        run_folder.write_json(self.output / "metrics.json", document)
        summaries.write_summaries(found, step)

    def write_report(self, found: Findings) -> None:
        """Write the report into the run folder."""
        found = found.with_details(self.preset.input_size, self.preset.resize)
        tqdm.write(found.format_tables())
        page = report.write_report(self.output / "report", found, self.output / "tensorboard")
        tqdm.write(f"report: {page}")


def open_validation(
    settings: TrainSettings, network: keras.Model, preset: Preset, is_chief: bool
) -> Validation | None:
    """The validation of a run; None where no mAP is wanted or none can be had, which is said."""
    if settings.evaluate_every == 0 or settings.train_split == "val":
        return None
    if not (settings.records / "val.json").exists():
        print(f"{settings.records} holds no val split: no mAP while training")
        return None
    val = records.load_manifest(settings.records, "val")
    truth = measure.read_truth(val)
    if not score.is_measurable(truth):
        print(f"{settings.records}: no object in val, so nothing to measure: no mAP")
        return None
    # Of several workers only the chief tells the figures, and has written what was trained on.
    trained_on = run_folder.trained_on(settings.output) if is_chief else TrainedOn()
    return Validation(settings, val, truth, network, preset, trained_on)
