"""Ray Serve: the photo is the request's body, JSON comes back.

Best: one replica a core. Documented: its default, one replica.
"""

import os
import sys
import time

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.contestants.pipeline import as_json, from_environment

REPLICAS = 1 if os.environ.get("STYLE") == "documented" else int(os.environ["WORKERS"])


@serve.deployment(num_replicas=REPLICAS, ray_actor_options={"num_cpus": 0.5})
class Detector:
    """One replica."""

    def __init__(self) -> None:
        self.pipeline = from_environment()

    async def __call__(self, request: Request) -> Response:
        """One request."""
        found = self.pipeline.detect(await request.body())
        return Response(as_json(found), media_type="application/json")


if __name__ == "__main__":
    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Detector.bind(), route_prefix="/detect")  # type: ignore[attr-defined]
    while True:
        time.sleep(3600)
