"""PyTriton over gRPC: BYTES in, tensors out.

Best: one inference function a core. Documented: one function, its default.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.contestants.pipeline import ROWS, from_environment


def make() -> Callable[[list[Any]], list[dict[str, np.ndarray]]]:
    """An inference function with a session of its own."""
    pipeline = from_environment()

    def infer(requests: list[Any]) -> list[dict[str, np.ndarray]]:
        return [answer(request["image"]) for request in requests]

    def answer(images: np.ndarray) -> dict[str, np.ndarray]:
        found = pipeline.detect(images[0, 0])
        count = len(found.scores)
        boxes, scores = np.zeros((1, ROWS, 4), np.float32), np.zeros((1, ROWS), np.float32)
        classes = np.zeros((1, ROWS), np.int32)
        boxes[0, :count], scores[0, :count] = found.boxes_xyxy, found.scores
        classes[0, :count] = found.classes
        number = np.array([[count]], np.int32)
        return {"num_detections": number, "boxes": boxes, "scores": scores, "classes": classes}

    return infer


if __name__ == "__main__":
    documented = os.environ.get("STYLE") == "documented"
    workers = 1 if documented else int(os.environ["WORKERS"])
    grpc_port, http_port, metrics_port = (int(port) for port in sys.argv[1:])
    config = TritonConfig(
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        grpc_address="127.0.0.1",
        http_address="127.0.0.1",
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="detector",
            infer_func=[make() for _ in range(workers)],
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[
                Tensor(name="num_detections", dtype=np.int32, shape=(1,)),
                Tensor(name="boxes", dtype=np.float32, shape=(ROWS, 4)),
                Tensor(name="scores", dtype=np.float32, shape=(ROWS,)),
                Tensor(name="classes", dtype=np.int32, shape=(ROWS,)),
            ],
            config=ModelConfig(max_batch_size=8, batcher=DynamicBatcher()),
        )
        triton.serve()
