"""A network in LiteRT, asked as an ONNX Runtime session is: so `OnnxNetwork` runs either."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from training.startup import error_stream_closed


class LiteSession:
    """A .tflite file of `training export`, or its content, on the CPU.

    threads: 0: one for each core.
    """

    def __init__(self, network: Path | bytes, threads: int = 0) -> None:
        file = {"model_path": str(network)} if isinstance(network, Path) else {}
        content = {} if file else {"model_content": network}
        with error_stream_closed():  # LiteRT tells there what it computes with
            self._interpreter = Interpreter(
                **file, **content, num_threads=threads or os.cpu_count() or 1
            )
            self._interpreter.allocate_tensors()
            self._detect = self._interpreter.get_signature_runner()

    def run(self, names: Sequence[str] | None, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The named outputs, of `images` uint8 [B, S, S, 3], which it gets one by one.

        names: None: all, in alphabetical order.
        """
        rows = [self._detect(images=image[None]) for image in feed["images"]]
        return [np.concatenate([row[name] for row in rows]) for name in names or sorted(rows[0])]

    def tensors(self) -> dict[str, str]:
        """Type and shape by name, such as `uint8 [1, 300, 300, 3]`; the input first."""
        inputs, outputs = self._detect.get_input_details(), self._detect.get_output_details()
        return {
            name: f"{np.dtype(of['dtype']).name} {of['shape'].tolist()}"
            for name, of in (inputs | dict(sorted(outputs.items()))).items()
        }

    def types(self) -> dict[str, str]:
        """The type of each tensor by its name, of those between two operators as well."""
        return {
            tensor["name"]: np.dtype(tensor["dtype"]).name
            for tensor in self._interpreter.get_tensor_details()
        }
