"""MLServer over gRPC, the protocol that Triton speaks too: BYTES in, tensors out.

Best: one parallel worker a core. Documented: its default, one.
"""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.contestants.pipeline import Pipeline, from_environment


class Detector(MLModel):
    """A custom runtime; mlserver_models/ names it."""

    async def load(self) -> bool:
        """Once a worker."""
        self.pipeline: Pipeline = from_environment()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One photo."""
        (photo,) = payload.inputs[0].data
        found = self.pipeline.detect(photo)
        arrays = {
            "num_detections": np.array([len(found.scores)], np.int32),
            "boxes": np.ascontiguousarray(found.boxes_xyxy),
            "scores": np.ascontiguousarray(found.scores),
            "classes": np.ascontiguousarray(found.classes),
        }
        outputs = [NumpyCodec.encode_output(name, array) for name, array in arrays.items()]
        return InferenceResponse(model_name=self.name, outputs=outputs)
