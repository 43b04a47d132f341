"""How frames should travel: as what, and whether in one stream.

    python -m benchmarks.frames data/val.json --output benchmarks/results/frames.json

The photos of an evaluation set (`python -m training coco`) stand for frames. Encodings: what the
network finds in them, beside a lossless PNG. Streaming: gRPC's ModelStreamInfer beside the client's
calls in threads, in turns, so that a machine that drifts does so for both.
"""

import json
import queue
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import tyro
from tqdm import tqdm
from tritonclient.grpc import InferenceServerClient, InferInput

from benchmarks.large_photos import nearest
from benchmarks.measurement import machine
from benchmarks.measurement.figures import spread
from client import Detector, Result
from client.tensors import result_of
from serving.release.evaluation import (
    SCORE_THRESHOLD,
    EvaluationSet,
    read_evaluation,
    score_detections,
)
from serving.server.server import EmbeddedServer, ServerSettings

SHOWN = 0.5  # score from which the ensemble answers by default
QUALITY = cv2.IMWRITE_JPEG_QUALITY
ENCODINGS: dict[str, tuple[str, list[int]]] = {
    "PNG": (".png", []),
    **{f"JPEG {quality}": (".jpg", [QUALITY, quality]) for quality in (95, 90, 80, 70, 50)},
}


@dataclass(frozen=True)
class Settings:
    """Measure encodings of frames, and streaming."""

    evaluation: Annotated[Path, tyro.conf.Positional]
    """COCO file with boxes, beside its photos."""
    repository: Path = Path("model_repository")
    """What the embedded server serves."""
    output: Path = Path("benchmarks/results/frames.json")
    """Takes the figures."""
    concurrency: tuple[int, ...] = (1, 2, 4, 8)
    """Frames under way at once, with and without a stream."""
    rounds: int = 20
    """Turns of 40 frames each way."""


def main(settings: Settings) -> None:
    """Measure, and write what was found."""
    annotated = read_evaluation(settings.evaluation)
    cv2.setNumThreads(1)
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer(ServerSettings(settings.repository)))
        detector = stack.enter_context(Detector(server.grpc_url))
        encoded = _encodings(annotated, detector)
        files = [path.read_bytes() for path in list(annotated.photos.values())[:40]]
        stream = Stream(InferenceServerClient(server.grpc_url))
        streamed = [compare(detector, stream, files, n, settings) for n in settings.concurrency]
    found = {"machine": machine.describe_machine(), "encodings": encoded, "streaming": streamed}
    settings.output.write_text(json.dumps(found, indent=2) + "\n")


def _encodings(annotated: EvaluationSet, detector: Detector) -> list[dict[str, Any]]:
    """What each encoding costs, and what is found in it."""
    pictures = {number: cv2.imread(str(path)) for number, path in annotated.photos.items()}
    rows: list[dict[str, Any]] = []
    lossless: dict[int, Result] = {}
    for name, (suffix, options) in ENCODINGS.items():
        began = time.thread_time()
        files = [cv2.imencode(suffix, each, options)[1].tobytes() for each in pictures.values()]
        cost = (time.thread_time() - began) / len(files)
        results = detector.detect_many(files, score_threshold=SCORE_THRESHOLD)
        found = dict(zip(pictures, results, strict=True))
        lossless = lossless or found
        rows.append(
            {
                "encoding": name,
                "kb": round(float(np.mean(list(map(len, files)))) / 1e3, 1),
                "encode_ms": round(1000 * cost, 2),
                "map50": score_detections(annotated, found).map50,
                "moved_px_p95": moved(lossless, found),
            }
        )
        print(json.dumps(rows[-1]))
    return rows


def moved(wanted: dict[int, Result], found: dict[int, Result]) -> float:
    """Of 95 % of the shown boxes the most that a side is away from the nearest box, pixels."""
    away = [
        nearest(corners(one), np.array([corners(o) for o in others if o.label == one.label]))
        for number, result in wanted.items()
        for others in [found[number].detections]
        for one in result.detections
        if one.score >= SHOWN and any(o.label == one.label for o in others)
    ]
    return round(float(np.percentile(away, 95)), 2)


def corners(detection: Any) -> np.ndarray:
    """xyxy, float [4]."""
    box = detection.box
    return np.array([box.x1, box.y1, box.x2, box.y2])


class Stream:
    """Frames through one ModelStreamInfer, some under way at once."""

    def __init__(self, client: InferenceServerClient) -> None:
        self.client = client

    def detect_many(self, files: Sequence[bytes], concurrency: int) -> list[Result]:
        """The results in their order, which is Triton's for models that answer once."""
        answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        free = threading.Semaphore(concurrency)

        def take(result: Any, error: Any) -> None:
            free.release()
            answers.put((result, error))

        self.client.start_stream(take)
        for file in files:
            free.acquire()
            self.client.async_stream_infer("ensemble", [_image_tensor(file)])
        results = [_read_answer(*answers.get(timeout=60)) for _ in files]
        self.client.stop_stream()
        return results


def _image_tensor(file: bytes) -> InferInput:
    """The tensor `image`."""
    tensor = InferInput("image", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[file]], object))
    return tensor


def _read_answer(answer: Any, error: Any) -> Result:
    """What one answer of the stream says."""
    if error:
        raise error
    return result_of(
        {each.name: answer.as_numpy(each.name) for each in answer.get_response().outputs}
    )


def compare(
    detector: Detector, stream: Stream, files: Sequence[bytes], concurrency: int, s: Settings
) -> dict[str, Any]:
    """Frames a second and the client's CPU of both ways, in turns."""
    ways: dict[str, Callable[[], Any]] = {
        "calls": lambda: list(detector.detect_many(files, concurrency=concurrency)),
        "stream": lambda: stream.detect_many(files, concurrency),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    for _ in tqdm(range(s.rounds), desc=f"{concurrency} under way"):
        for way, detect in ways.items():
            began, used = time.perf_counter(), time.process_time()
            assert len(detect()) == len(files)
            rates[way].append(len(files) / (time.perf_counter() - began))
            cpu[way].append(1000 * (time.process_time() - used) / len(files))
    ratios = [s / c for s, c in zip(rates["stream"], rates["calls"], strict=True)]
    row = {
        "concurrency": concurrency,
        "frames_per_second": {
            way: round(statistics.median(each), 1) for way, each in rates.items()
        },
        "client_cpu_ms": {way: round(statistics.median(each), 2) for way, each in cpu.items()},
        "ratio": spread(ratios),
    }
    print(json.dumps(row))
    return row


if __name__ == "__main__":
    main(tyro.cli(Settings))
