"""The three steps in one process, without a server: what every contestant does to a photo.

`Pipeline` calls the very functions of model_repository's preprocess and postprocess. `Documented`
decodes as tutorials do, in full, with a session of default options. Both run inside the peers too,
whose environment has none of the project's packages: only the standard library, numpy, cv2 and
onnxruntime here.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

from benchmarks import ROOT

REPOSITORY = ROOT / "model_repository"
LABELS = tuple((REPOSITORY / "postprocess" / "labels.txt").read_text().splitlines())
MAX_PIXELS = 64_000_000
THRESHOLD = 0.5  # the ensemble's default
VOTING_IOU = 0.85  # likewise
ROWS = 100  # most detections a photo

for step in ("preprocess", "postprocess"):
    sys.path.insert(0, str(REPOSITORY / step / "1"))

import postprocessing  # noqa: E402
import preprocessing  # noqa: E402


class Pipeline:
    """A photo's bytes in, its detections out, with the functions that the ensemble's models call.

    Args:
        network: the ONNX file.
        threads: of one inference; 0 leaves ONNX Runtime's default, all cores.
        score_threshold: detections score above it, 0 to 1.
    """

    def __init__(self, network: Path, threads: int = 1, score_threshold: float = THRESHOLD) -> None:
        cv2.setNumThreads(1)
        self.session = open_session(network, threads)
        self.height, self.width = self.session.get_inputs()[0].shape[1:3]
        self.settings = postprocessing.Settings(score_threshold, 0.45, ROWS)

    def detect(self, file: bytes) -> Any:
        """postprocessing's Detections of one photo."""
        images, sizes = self.preprocess(file)
        boxes, scores = self.infer(images)
        return self.postprocess(boxes, scores, sizes)

    def infer(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32 [1, K, 4] and [1, K, C]."""
        boxes, scores = self.session.run(["boxes", "scores"], {"images": images})
        return boxes, scores

    def postprocess(self, boxes: np.ndarray, scores: np.ndarray, sizes: np.ndarray) -> Any:
        """postprocessing's Detections, as the model postprocess makes them."""
        given = boxes[0], scores[0], sizes[0], self.settings
        return postprocessing.detect(*given, voting_iou=VOTING_IOU)

    def preprocess(self, file: bytes) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [1, H, W, 3] and int32 [1, 2], as the model preprocess makes them."""
        return preprocessing.preprocess([file], self.height, self.width, MAX_PIXELS)


class Documented(Pipeline):
    """The same steps as tutorials show them: decoding in full, ONNX Runtime's default options."""

    def __init__(self, network: Path, score_threshold: float = THRESHOLD) -> None:
        super().__init__(network, threads=0, score_threshold=score_threshold)

    def preprocess(self, file: bytes) -> tuple[np.ndarray, np.ndarray]:
        """OpenCV's usual three calls."""
        photo = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
        image = cv2.resize(cv2.cvtColor(photo, cv2.COLOR_BGR2RGB), (self.width, self.height))
        return image[None], np.array([photo.shape[:2]], np.int32)


def open_session(network: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session of the CPU, of so many threads; 0 leaves the default options as they are."""
    options = onnxruntime.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])


def from_environment() -> Pipeline:
    """The pipeline that a peer was told to serve: variables NETWORK and STYLE."""
    network = Path(os.environ["NETWORK"])
    documented = os.environ.get("STYLE") == "documented"
    return Documented(network) if documented else Pipeline(network)


def as_dict(found: Any) -> dict[str, list[Any]]:
    """Detections as plain lists."""
    return {
        "boxes": found.boxes_xyxy.tolist(),
        "scores": found.scores.tolist(),
        "labels": [LABELS[number] for number in found.classes],
    }


def as_json(found: Any) -> bytes:
    """Detections as a peer answers them."""
    return json.dumps(as_dict(found)).encode()
