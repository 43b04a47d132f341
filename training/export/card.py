"""What stands on an artifact's card: what the network is, and how good it is on val."""

import hashlib
import subprocess
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from training import run_folder
from training.data import records
from training.evaluation import measure
from training.evaluation.findings import Findings
from training.evaluation.operating_points import Wanted
from training.evaluation.reliability import Reliability
from training.export import precisions, reference
from training.network import boxes, onnx_network
from training.network.default_boxes import default_boxes, describe_default_boxes
from training.network.presets import Preset


def make_card(folder: Path, preset: Preset, labels: tuple[str, ...], keep: int) -> dict[str, Any]:
    """What is known before the network is measured; folder: of the run."""
    description = run_folder.read_description(folder)
    settings = {k: v for k, v in description["settings"].items() if k not in ("records", "output")}
    for name in ("default_boxes", "pretrained"):
        if settings.get(name):  # a path says nothing on another machine, its last part may
            settings[name] = Path(settings[name]).name
    return {
        "preset": preset.name,
        "precision": "float32",
        "input_size": preset.input_size,
        "resize": preset.resize,
        "tile": description.get("tile", 0),  # of larger photos' tiles, pixels; 0: it saw them whole
        "iou_threshold": preset.iou_threshold,
        "voting_iou": preset.voting_iou,
        "keep": keep,
        "labels": list(labels),
        "step": run_folder.newest_step(folder),
        "metrics": run_folder.read_metrics(folder),
        "data_fingerprint": description["fingerprint"],
        "trained_on": run_folder.trained_on(folder).to_dict(),
        "chosen_on": description.get("chosen_on"),  # a split, of a run's best weights
        "settings": settings,
        "preset_settings": asdict(preset),
        "default_boxes": {
            "count": len(default_boxes(preset)),
            "variances": boxes.VARIANCES,
            "feature_maps": describe_default_boxes(preset),
        },
        "git_commit": _git_commit(),
        "versions": {
            name: version(name) for name in ("tensorflow", "keras", "tf2onnx", "onnx", "numpy")
        },
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git_commit() -> str | None:
    """Of the code that exports; None outside a git checkout."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def seal_card(
    artifact: Path,
    val: records.Manifest | None,
    wanted: Wanted | None = None,
    fitted: Reliability | None = None,
) -> Findings | None:
    """Write into the card, and into the network's metadata, what the finished network does on val.

    The card alone has the reference that drift is judged by, and the file's sha256, for those who
    copy the artifact or serve it.

    Args:
        artifact: its folder.
        val: the split; None: there is none, and nothing is measured.
        wanted: of each class; None: the service's one threshold is for all.
        fitted: what the network's scores are calibrated by; None: they are not.

    Returns:
        What was measured.
    """
    path, known = artifact / "model.onnx", None
    if val:
        known = _measure_network(path, val, wanted)
        precisions.write_facts(artifact, onnx.load(path), _describe_findings(known, fitted))
    card = run_folder.read_json(artifact / "card.json", "an artifact's card")
    with path.open("rb") as file:
        card["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    if val:
        card["reference"] = reference.measure_reference(onnx_network.load_onnx(path), val)
    run_folder.write_json(artifact / "card.json", card)
    return known


def _measure_network(path: Path, val: records.Manifest, wanted: Wanted | None) -> Findings:
    network = onnx_network.load_onnx(path)
    step, seen = measure.onnx_step(network), (network.input_size, network.resize)
    found = Findings.measure(step, val, *seen, network.trained_on)
    return replace(found, wanted=wanted)


def _describe_findings(found: Findings, fitted: Reliability | None) -> dict[str, Any]:
    """Facts for the card. Reliability is that of the scores before they were calibrated."""
    told: dict[str, Any] = {"metrics": found.metrics_dict()} | found.points_dict()
    if reliability := fitted or found.reliability:
        told["reliability"] = reliability.to_dict() | {"is_applied": fitted is not None}
    if found.wanted:
        points = found.points
        told["score_thresholds"] = [
            points[label].threshold
            if label in points and points[label].is_reached
            else reference.SCORE_THRESHOLD
            for label in found.labels
        ]
    return told
