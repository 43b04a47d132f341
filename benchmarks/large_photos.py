"""How much faster 12-megapixel photos are answered, and what that does to their boxes.

    python -m benchmarks.large_photos data/val.json --output benchmarks/results/large_photos.json

The photos of an evaluation set (`python -m training coco`) are enlarged, noise like a sensor's is
added, and they are sent one at a time to two embedded servers in turns: the shipped one, and the
same with reduced-scale decoding off. Boxes are compared with those of the whole photo averaged
down to the network's input, in pixels of the large photo.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import tyro
from tqdm import tqdm

from benchmarks.contestants.pipeline import REPOSITORY, Pipeline, preprocessing
from benchmarks.measurement import accuracy, machine
from benchmarks.measurement.figures import spread
from client import Detector
from serving.release.evaluation import EvaluationSet, read_evaluation, score_detections
from serving.server.server import EmbeddedServer, ServerSettings

NEAR = 100  # pixels; a box whose nearest one is farther away counts as lost
SHOWN = 0.5  # score from which boxes are compared, as the ensemble answers by default


@dataclass(frozen=True)
class Settings:
    """Measure photos of 12 megapixels."""

    evaluation: Annotated[Path, tyro.conf.Positional]
    """COCO file with boxes, beside its photos."""
    network: Path
    """The ONNX file that mAP and boxes are measured with."""
    output: Path = Path("benchmarks/results/large_photos.json")
    """Takes the figures."""
    width: int = 4032
    """Of the enlarged photos, pixels."""
    height: int = 3024
    """Of the enlarged photos, pixels."""
    noise: tuple[float, ...] = (0.0, 4.0)
    """Standard deviations of the noise, in levels of 255; the more of it, the larger the files."""
    timed: int = 20
    """Photos that are sent to the servers."""


class Whole(Pipeline):
    """Decodes the whole photo and resizes it as photos of ordinary size are."""

    interpolation = cv2.INTER_LINEAR

    def preprocess(self, file: bytes) -> tuple[np.ndarray, np.ndarray]:
        photo = cv2.imdecode(np.frombuffer(file, np.uint8), preprocessing.DECODING)
        size = (self.width, self.height)
        image = cv2.resize(photo, size, interpolation=self.interpolation)
        return image[None], np.array([photo.shape[:2]], np.int32)


class Averaged(Whole):
    """Decodes the whole photo and averages it: what the others are compared with."""

    interpolation = cv2.INTER_AREA


WAYS: dict[str, type[Pipeline]] = {
    "reduced": Pipeline,
    "whole, averaged": Averaged,
    "whole, bilinear": Whole,
}


def main(settings: Settings) -> None:
    """Measure at each noise, and write what was found."""
    figures = []
    for noise in settings.noise:
        with tempfile.TemporaryDirectory() as folder:
            annotated = enlarge(read_evaluation(settings.evaluation), settings, noise, Path(folder))
            files = list(annotated.photos.values())
            entry = {
                "noise": noise,
                "file_mb": round(float(np.mean([f.stat().st_size for f in files])) / 1e6, 2),
                **compare(annotated, settings.network),
                "latency_ms": latencies(files[: settings.timed]),
            }
        print(json.dumps(entry, indent=2))
        figures.append(entry)
    size = [settings.width, settings.height]
    found = {
        "machine": machine.describe_machine(),
        "size": size,
        "photos": len(files),
        "figures": figures,
    }
    settings.output.write_text(json.dumps(found, indent=2) + "\n")


def enlarge(
    annotated: EvaluationSet, settings: Settings, noise: float, folder: Path
) -> EvaluationSet:
    """The photos and their boxes at the large size."""
    generator = np.random.default_rng(0)
    images, scales = [], {}
    for number, path in tqdm(annotated.photos.items(), desc=f"photos, noise {noise:g}"):
        small = cv2.imread(str(path))
        scales[number] = (settings.width / small.shape[1], settings.height / small.shape[0])
        size = (settings.width, settings.height)
        large = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
        if noise:
            large += generator.normal(0, noise, large.shape).astype(np.float32)
        name = f"{number}.jpg"
        pixels = np.clip(np.rint(large), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
        images.append({"id": number, "file_name": name})
    boxes = [
        {**row, "bbox": scaled(row["bbox"], scales[row["image_id"]])} for row in annotated.truth
    ]
    labels = [{"id": place, "name": label} for place, label in enumerate(annotated.labels)]
    content = {"images": images, "annotations": boxes, "categories": labels}
    (folder / "large.json").write_text(json.dumps(content))
    return read_evaluation(folder / "large.json")


def scaled(box_xywh: list[float], scale: tuple[float, float]) -> list[float]:
    """A box of the small photo in pixels of the large one."""
    return [length * scale[axis % 2] for axis, length in enumerate(box_xywh)]


def compare(annotated: EvaluationSet, network: Path) -> dict[str, Any]:
    """mAP of each way, and how far its boxes are from those of the averaged photo."""
    found: dict[str, dict[int, Any]] = {}
    for way, kind in WAYS.items():
        pipeline = kind(network, score_threshold=0.01)
        photos = tqdm(annotated.photos.items(), desc=way)
        found[way] = {number: pipeline.detect(path.read_bytes()) for number, path in photos}
    return {
        "map50": {
            way: score_detections(
                annotated, {n: accuracy.result(f) for n, f in answers.items()}
            ).map50
            for way, answers in found.items()
        },
        "distance_px": {
            way: distances(found["whole, averaged"], found[way])
            for way in ("reduced", "whole, bilinear")
        },
    }


def distances(wanted: dict[int, Any], found: dict[int, Any]) -> dict[str, float]:
    """Of each shown box the largest difference of a side to the nearest box of its class."""
    away = [
        nearest(box, one.boxes_xyxy[one.classes == label])
        for number, other in wanted.items()
        for one in [found[number]]
        for box, label, value in zip(other.boxes_xyxy, other.classes, other.scores, strict=True)
        if value >= SHOWN
    ]
    near = [each for each in away if each <= NEAR]
    return {
        **spread(near),
        "p95": float(np.percentile(near, 95)),
        "within_2_px": float(np.mean(np.array(near) <= 2)),
        "lost": len(away) - len(near),
    }


def nearest(box_xyxy: np.ndarray, boxes_xyxy: np.ndarray) -> float:
    """Pixels; infinite where there is none."""
    differences = np.abs(boxes_xyxy - box_xyxy).max(axis=1, initial=0)
    return float(differences.min(initial=np.inf))


def latencies(files: list[Path]) -> dict[str, Any]:
    """End to end, one request at a time, the two servers in turns."""
    with ExitStack() as stack:
        repository = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "models"
        shutil.copytree(REPOSITORY, repository)
        with (repository / "preprocess" / "1" / "preprocessing.py").open("a") as code:
            code.write("\nREDUCTIONS.clear()\n")
        detect: dict[str, Callable[[Path], Any]] = {}
        for way, models in {"reduced": REPOSITORY, "whole": repository}.items():
            server = stack.enter_context(EmbeddedServer(ServerSettings(models)))
            detector = stack.enter_context(Detector(server.grpc_url))
            detect[way] = detector.detect
        times: dict[str, list[float]] = {way: [] for way in detect}
        for file in tqdm([files[0], *files], desc="servers"):  # the first warms up
            for way, ask in detect.items():
                began = time.perf_counter()
                ask(file)
                times[way].append(1000 * (time.perf_counter() - began))
    ratios = [
        whole / reduced for whole, reduced in zip(times["whole"], times["reduced"], strict=True)
    ]
    return {way: spread(values[1:]) for way, values in times.items()} | {
        "ratio": spread(ratios[1:])
    }


if __name__ == "__main__":
    main(tyro.cli(Settings))
