"""Triton's side of postprocessing; the work itself is in postprocessing.py and fusion.py.

What is found is measured for Triton's /metrics: detection_statistics.py.

In:  `boxes`             FP32  [B, K, 4]  xyxy, 0..1 of the input
     `scores`            FP32  [B, K, C]  probability per class, without background
     `image_size`        INT32 [B, 2]     height, width of the upright original, pixels
Out: `num_detections`    INT32 [B, 1]     how many of the rows below are real
     `detection_boxes`   FP32  [B, M, 4]  xyxy in pixels of the upright original, best first
     `detection_scores`  FP32  [B, M]
     `detection_classes` INT32 [B, M]     0-based
     `detection_labels`  BYTES [B, M]     the class names

Rows past the count are 0, and empty in detection_labels. A configuration may have the boxes and the
scores of further networks, each with a K of its own: `boxes_2` and `scores_2`, and so on. All are
fused then.
"""

import json
import traceback
from pathlib import Path
from typing import Any

import fusion
import numpy as np
import postprocessing
import triton_python_backend_utils as pb_utils
from detection_statistics import DetectionStatistics
from metrics import Reporter


class TritonPythonModel:
    """What Triton's Python backend looks for in a model.py."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings and the labels once; Triton calls this before the first request."""
        config = json.loads(args["model_config"])
        self.rows = output_dims(config, "detection_boxes")[0]
        classes = int(pb_utils.get_input_config_by_name(config, "scores")["dims"][1])
        self.labels = read_labels(Path(__file__).parent.parent / "labels.txt", classes)
        texts = {name: entry["string_value"] for name, entry in config["parameters"].items()}
        self.resize = postprocessing.parse_resize(texts)
        self.ious = postprocessing.parse_voting_iou(texts), fusion.parse_fusion_iou(texts)
        names = [tensor["name"] for tensor in config["input"]]
        self.boxes, self.scores = (
            [name for name in names if name.startswith(kind)] for kind in ("boxes", "scores")
        )
        self.settings = postprocessing.SettingsReader(
            postprocessing.parse_settings(texts), self.rows, texts["ignored_parameters"]
        )
        self.settings.defaults.least_scores(classes)  # fails here, not at each request
        names = [label.decode(errors="replace") for label in self.labels]
        self.statistics = DetectionStatistics(names)
        self.reporter = Reporter(pb_utils, config["name"], self.statistics.measured())

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer some requests that arrived together, each on its own."""
        return [self.respond(request) for request in requests]

    def finalize(self) -> None:
        """Hand over what was measured last; Triton calls this before it unloads the model."""
        self.reporter.stop()

    def respond(self, request: Any) -> Any:
        """The response to one request; a failure is that request's alone."""
        try:
            return pb_utils.InferenceResponse(self.outputs(request))
        except postprocessing.RequestError as error:
            self.reporter.attempt(request.parameters(), self.statistics.rejected.add)
            return failure(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())
            message = "postprocess failed, see the server's log"
            return failure(message, pb_utils.TritonError.INTERNAL)

    def outputs(self, request: Any) -> list[Any]:
        """The output tensors of one request."""
        settings = self.settings.read(json.loads(request.parameters() or "{}"))
        (sizes,) = read_inputs(request, ["image_size"])
        postprocessing.check_sizes(sizes)
        names = [*self.boxes, *self.scores]
        of_images = zip(*read_inputs(request, names), strict=True)
        found = [
            fusion.detect(pair(image), size, settings, self.resize, *self.ious)
            for image, size in zip(of_images, sizes, strict=True)
        ]
        outputs = self.empty_outputs(len(found))
        for index, detections in enumerate(found):
            self.fill(outputs, index, detections)
        # Another threshold gives another distribution.
        usual = settings == self.settings.defaults
        count = self.statistics.add if usual else self.statistics.pass_over
        self.reporter.attempt(request.parameters(), count, found)
        return [pb_utils.Tensor(name, array) for name, array in outputs.items()]

    def empty_outputs(self, batch: int) -> dict[str, np.ndarray]:
        """The output arrays of a batch without a single detection."""
        return {
            "num_detections": np.zeros((batch, 1), np.int32),
            "detection_boxes": np.zeros((batch, self.rows, 4), np.float32),
            "detection_scores": np.zeros((batch, self.rows), np.float32),
            "detection_classes": np.zeros((batch, self.rows), np.int32),
            "detection_labels": np.full((batch, self.rows), b"", object),
        }

    def fill(
        self, outputs: dict[str, np.ndarray], index: int, found: postprocessing.Detections
    ) -> None:
        """Write the detections of one image into its rows."""
        count = len(found.scores)
        outputs["num_detections"][index] = count
        outputs["detection_boxes"][index, :count] = found.boxes_xyxy
        outputs["detection_scores"][index, :count] = found.scores
        outputs["detection_classes"][index, :count] = found.classes
        outputs["detection_labels"][index, :count] = self.labels[found.classes]


def read_inputs(request: Any, names: list[str]) -> list[np.ndarray]:
    return [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names]


def pair(image: tuple[np.ndarray, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each network the boxes and the scores, from the boxes of all before the scores of all."""
    half = len(image) // 2
    return list(zip(image[:half], image[half:], strict=True))


def output_dims(config: dict[str, Any], name: str) -> list[int]:
    return [int(size) for size in pb_utils.get_output_config_by_name(config, name)["dims"]]


def read_labels(path: Path, classes: int) -> np.ndarray:
    """The class names, bytes [C]; line i is class i."""
    labels = path.read_bytes().splitlines()
    if len(labels) != classes:
        raise pb_utils.TritonModelException(
            f"labels.txt has {len(labels)} lines, scores in config.pbtxt has {classes} classes: "
            f"one line per class expected"
        )
    return np.array(labels, object)


def failure(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
