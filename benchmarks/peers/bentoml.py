"""BentoML: the photo is the request's body, JSON comes back.

Best: one worker process a core. Documented: its default, one worker.
"""

import os
from pathlib import Path
from typing import Any

import bentoml

from benchmarks.contestants.pipeline import as_dict, from_environment

WORKERS = 1 if os.environ.get("STYLE") == "documented" else int(os.environ["WORKERS"])


@bentoml.service(workers=WORKERS, traffic={"timeout": 60})
class Detector:
    """One service, one model."""

    def __init__(self) -> None:
        self.pipeline = from_environment()

    @bentoml.api(route="/detect")
    def detect(self, photo: Path, /) -> dict[str, Any]:
        """Files reach a BentoML service as a path."""
        return as_dict(self.pipeline.detect(photo.read_bytes()))
