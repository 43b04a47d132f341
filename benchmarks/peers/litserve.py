"""LitServe: a form with the photo, JSON comes back.

Best: one worker process a core. Documented: its default, one worker.
"""

import os
import sys
from typing import Any

import litserve
from fastapi import Request

from benchmarks.contestants.pipeline import as_dict, from_environment


class Detector(litserve.LitAPI):
    """The three steps of LitServe."""

    def setup(self, device: str) -> None:
        """Once a worker."""
        self.pipeline = from_environment()

    def decode_request(self, request: Request) -> bytes:
        """The file in the form."""
        content: bytes = request["file"].file.read()
        return content

    def predict(self, photo: bytes) -> Any:
        """Detections of one photo."""
        return self.pipeline.detect(photo)

    def encode_response(self, found: Any) -> dict[str, Any]:
        """Becomes JSON."""
        return as_dict(found)


if __name__ == "__main__":
    documented = os.environ.get("STYLE") == "documented"
    workers = 1 if documented else int(os.environ["WORKERS"])
    server = litserve.LitServer(
        Detector(api_path="/detect"), accelerator="cpu", workers_per_device=workers
    )
    server.run(port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False)
