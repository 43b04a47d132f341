"""FastAPI under uvicorn: the photo is the request's body, JSON comes back.

Best: one process a core, each detects in its event loop: with one photo at a time nothing is
gained by handing it to a thread. Documented: a plain `def`, which FastAPI runs in its thread pool,
one process.
"""

import os

from fastapi import FastAPI, Request, Response

from benchmarks.pipeline import as_dict, as_json, from_environment

app = FastAPI()
pipeline = from_environment()

if os.environ.get("STYLE") == "documented":
    from typing import Annotated

    from fastapi import File

    @app.post("/detect")
    def detect(file: Annotated[bytes, File()]) -> dict[str, list]:
        return as_dict(pipeline.detect(file))

else:

    @app.post("/detect")
    async def detect_body(request: Request) -> Response:
        found = pipeline.detect(await request.body())
        return Response(as_json(found), media_type="application/json")
