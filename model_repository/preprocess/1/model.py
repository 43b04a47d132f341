"""Triton's side of preprocessing; the work itself is in preprocessing.py.

What comes in is measured for Triton's /metrics: image_statistics.py.

In:  `image`      BYTES [B, 1]        an encoded image file, as it is
Out: `images`     UINT8 [B, H, W, 3]  RGB, upright, at the network's input size
     `image_size` INT32 [B, 2]        height, width of the upright original, pixels
"""

import json
import traceback
from typing import Any

import cv2
import preprocessing
import triton_python_backend_utils as pb_utils
from image_statistics import ImageStatistics
from metrics import Reporter


class TritonPythonModel:
    """What Triton's Python backend looks for in a model.py."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings once; Triton calls this before the first request."""
        config = json.loads(args["model_config"])
        dims = pb_utils.get_output_config_by_name(config, "images")["dims"]
        self.height, self.width = (int(size) for size in dims[:2])
        texts = {name: entry["string_value"] for name, entry in config["parameters"].items()}
        self.max_pixels = int(texts["max_pixels"])
        self.resize = preprocessing.parse_resize(texts)
        cv2.setNumThreads(1)  # Triton runs instances side by side; threads of their own would fight
        cv2.setLogLevel(0)  # the client hears of a bad file, the log need not
        self.statistics = ImageStatistics()
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
        except preprocessing.ImageError as error:
            self.reporter.attempt(request.parameters(), self.statistics.reject, error.reason)
            return failure(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())
            return failure("preprocess failed, see the server's log", pb_utils.TritonError.INTERNAL)

    def outputs(self, request: Any) -> list[Any]:
        """The output tensors of one request."""
        files = pb_utils.get_input_tensor_by_name(request, "image").as_numpy().reshape(-1)
        images, sizes = preprocessing.preprocess(
            files, self.height, self.width, self.max_pixels, self.resize
        )
        self.reporter.attempt(request.parameters(), self.statistics.add, files, images, sizes)
        return [pb_utils.Tensor("images", images), pb_utils.Tensor("image_size", sizes)]


def failure(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
