"""The three steps of the ensemble in this process: a file's bytes in, detections out.

The first and the last are the code of the repository itself. Each keeps nothing of an image, so
threads may share them.
"""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from client.errors import DetectorError, InvalidImage, InvalidParameter
from client.local import step_code
from client.local.model_folder import Step

SPIN = 20  # microseconds that idle threads look for work; ONNX Runtime's own value burns a core


class Preprocess:
    """What preprocess/1/model.py does to one image.

    Its settings of OpenCV, one thread and no log, are for a process of its own and change no pixel.
    """

    def __init__(self, step: Step, input_size: tuple[int, int]) -> None:
        self.code = _load_code(step, "preprocessing")
        self.height, self.width = input_size
        self.max_pixels = int(step.parameters["max_pixels"])
        self.options = _resize_option(step, self.code)

    def __call__(self, file: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return uint8 [1, H, W, 3] and the height and width of the upright original, [1, 2]."""
        try:
            return self.code.preprocess(
                [file], self.height, self.width, self.max_pixels, **self.options
            )
        except self.code.ImageError as error:
            raise InvalidImage(f"{name}: {str(error).removeprefix('image 0: ')}") from None


class Network:
    """The ONNX file in a session with the options of serving/backends/onnxruntime/model.py."""

    def __init__(self, path: Path, threads: int) -> None:
        self.session = _open_session(path, threads)
        tensors = [*self.session.get_inputs(), *self.session.get_outputs()]
        match {tensor.name: tensor.shape for tensor in tensors}:
            case {
                "images": [_, int(height), int(width), 3],
                "boxes": _,
                "scores": [*_, int(count)],
            }:
                self.input_size, self.classes = (height, width), count
            case found:
                raise DetectorError(
                    f"{path} must take images [batch, H, W, 3] and give boxes and scores, found "
                    + ", ".join(f"{name} {shape}" for name, shape in found.items())
                )

    def __call__(self, images: np.ndarray, name: str) -> list[np.ndarray]:
        """Return boxes, float32 [1, K, 4], and scores, float32 [1, K, C]."""
        try:
            return self.session.run(["boxes", "scores"], {"images": images})
        except Exception as error:  # onnxruntime has many types
            raise DetectorError(f"{name}: the network failed: {_first_line(error)}") from None


class Postprocess:
    """What postprocess/1/model.py does to one image."""

    def __init__(self, step: Step, fuses: bool) -> None:
        self.code = _load_code(step, "postprocessing")
        rows = step.output_dims("detection_boxes")[0]
        self.settings = self.code.SettingsReader(
            self.code.parse_settings(step.parameters), rows, step.parameters["ignored_parameters"]
        )
        self.options: dict[str, Any] = _resize_option(step, self.code)
        if "voting_iou" in step.parameters:
            self.options["voting_iou"] = self.code.parse_voting_iou(step.parameters)
        self.fusion = _load_code(step, "fusion") if fuses else None
        if self.fusion:
            self.options["fusion_iou"] = self.fusion.parse_fusion_iou(step.parameters)

    def __call__(
        self,
        members: Sequence[tuple[np.ndarray, np.ndarray]],
        size: np.ndarray,
        parameters: dict[str, Any],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes in pixels [N, 4], scores [N] and classes [N], best first."""
        try:
            settings = self.settings.read(parameters)
            if self.fusion:
                return self.fusion.detect(members, size, settings, **self.options)
            (alone,) = members
            return self.code.detect(*alone, size, settings, **self.options)
        except self.code.RequestError as error:
            raise InvalidParameter(str(error)) from None


def _resize_option(step: Step, code: ModuleType) -> dict[str, str]:
    """How a step resizes photos; nothing in a repository of before, whose code knows one way."""
    return {"resize": code.parse_resize(step.parameters)} if "resize" in step.parameters else {}


def _load_code(step: Step, name: str) -> ModuleType:
    try:
        return step_code.load_module(step.version, name)
    except FileNotFoundError:
        raise DetectorError(f"{step.version}/{name}.py is missing: the step's code") from None
    except ImportError as error:
        raise DetectorError(
            f"{step.version}/{name}.py needs a package that is not there ({error}): "
            "pip install opencv-python-headless pillow"
        ) from None


def _open_session(path: Path, threads: int) -> Any:
    try:
        import onnxruntime  # only here: a program that asks a server needs none
    except ImportError as error:
        raise DetectorError(
            f"a detector without a server needs ONNX Runtime ({error}): pip install onnxruntime"
        ) from None
    if not path.is_file():
        raise DetectorError(f"{path} is missing: the network")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN))
    options.log_severity_level = 4  # its errors arrive as exceptions
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has many types
        raise DetectorError(
            f"{path} is no network that ONNX Runtime can run: {_first_line(error)}"
        ) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
