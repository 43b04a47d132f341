"""`model.tflite`: an artifact's network for LiteRT, which runs on phones and boards.

The graph is that of `model.onnx`, but for one image at a time: `images` uint8 [1, S, S, 3] RGB in;
`boxes` float32 [1, K, 4] xyxy, 0..1, and `scores` float32 [1, K, C] out, by these names in the
signature `serving_default`, in every precision. It holds operators of LiteRT alone.

float16 halves the file: weights are stored so, and computed with as the processor likes best. int8
is static quantization, of the photos that `quantize` takes: signed weights with a scale for each
channel, activations of the ranges seen. As there, predictors and what follows them stay float32: of
the shipped network's mAP@[.5:.95] they cost 0.014 in 8 bits, and no time could be measured.
"""

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from training import run_folder
from training.data import records
from training.evaluation.measure import measure_network
from training.export import precisions
from training.export.parity import check_parity
from training.network import model, onnx_network
from training.network.lite_network import LiteSession
from training.startup import error_stream_closed

FILE = "model.tflite"
_FLOAT = re.compile(r"/(offsets|logits|reshape)_")  # layers of the head, see model.py


def write_tflite(
    artifact: Path,
    detector: model.Detector,
    precision: precisions.Precision,
    photos: precisions.Photos | None,
    val: records.Manifest | None,
) -> str:
    """Write model.tflite into an artifact whose card is complete, and what it is onto the card.

    Args:
        artifact: its folder; model.onnx may be of any precision.
        photos: to calibrate int8 and compare float16 with; None for float32.
        val: to measure mAP on, in LiteRT; None: it is not known.

    Returns:
        A line for who exports.

    Raises:
        TrainingError: the file gives other boxes or scores than TensorFlow does.
    """
    known = onnx_network.load_onnx(artifact / "model.onnx")
    exact = Lite(detector, known.input_size)
    check_parity(detector, LiteSession(exact.network), known.input_size, FILE)
    card: dict[str, Any] = {"precision": precision}
    content = exact.network
    if photos and precision == "int8":
        images = precisions.read_images(
            photos.calibration, known.input_size, precisions.IMAGES, known.resize
        )
        content = exact.to_int8(images)
        told = precisions.describe_calibration(photos.calibration, len(images))
        card["calibration"] = told | {"weight_bits": 8}
    if photos and precision == "float16":
        content = exact.to_float16()
        before = replace(known, session=LiteSession(exact.network))
        after = replace(known, session=LiteSession(content))
        precisions.check_float16(before, after, photos, detector.calibration)
    (artifact / FILE).write_bytes(content)
    network = replace(known, session=LiteSession(content))
    found = measure_network(network, val) if val else None
    card |= {
        "tensors": network.session.tensors(),
        "metrics": found.to_dict() if found else None,
        "sha256": hashlib.sha256(content).hexdigest(),
        "litert": version("ai-edge-litert"),
    }
    path = artifact / "card.json"
    run_folder.write_json(path, run_folder.read_json(path, "an artifact's card") | {"tflite": card})
    line = f"{FILE}: {precision} ({len(content) / 1e6:.1f} MB)"
    if found is None:
        return line
    return f"{line}, {found.names[0]} {found.map50:.3f}, {found.names[1]} {found.map:.3f}"


class Lite:
    """A detector as LiteRT takes it.

    network: in float32.
    """

    def __init__(self, detector: model.Detector, size: int) -> None:
        self._name = detector.network.name
        signature = tf.TensorSpec([1, size, size, 3], tf.uint8, name="images")
        function = tf.function(detector.call, input_signature=[signature])
        # The converter would leave the variables of Keras 3 out of the file.
        frozen = convert_variables_to_constants_v2(function.get_concrete_function())

        def detect(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return dict(zip(("boxes", "scores"), frozen(images), strict=True))

        self._module = tf.Module()
        self._module.detect = tf.function(detect, input_signature=[signature])
        self.network = self._convert()

    def to_float16(self) -> bytes:
        """The network with weights in 16 bits."""
        return self._convert(float16=True)

    def to_int8(self, images: Sequence[np.ndarray] | np.ndarray) -> bytes:
        """The network in 8 bits up to the predictors.

        images: uint8 [S, S, 3], RGB, as the network gets them; those it was trained on, at least 1.
        """

        def feeds() -> Iterator[dict[str, np.ndarray]]:
            yield from ({"images": image[None]} for image in images)

        converter = self._converter()
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = feeds
        names = LiteSession(self.network).types()
        options = tf.lite.experimental.QuantizationDebugOptions(
            denylisted_nodes=[name for name in names if not self._is_quantized(name)]
        )
        with warnings.catch_warnings(), error_stream_closed():
            # The debugger, the one way to leave operators out, opens TensorFlow's own interpreter.
            warnings.filterwarnings("ignore", r"(?s).*tf\.lite\.Interpreter is deprecated")
            debugger = tf.lite.experimental.QuantizationDebugger(
                converter=converter, debug_dataset=feeds, debug_options=options
            )
            return debugger.get_nondebug_quantized_model()

    def _is_quantized(self, tensor: str) -> bool:
        """Whether what makes a tensor lies in the network, before the predictors."""
        return self._name in tensor and not _FLOAT.search(tensor)

    def _converter(self) -> Any:
        function = self._module.detect.get_concrete_function()
        return tf.lite.TFLiteConverter.from_concrete_functions([function], self._module)

    def _convert(self, float16: bool = False) -> bytes:
        converter = self._converter()
        if float16:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        with error_stream_closed():  # what it writes there is for its own authors
            return converter.convert()
