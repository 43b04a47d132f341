"""FastAPI under uvicorn: JSON comes back.

Best: one process a core, the photo is the request's body, and each process detects in its event
loop: with one photo at a time nothing is gained by handing it to a thread. Documented: a form, a
plain `def`, which FastAPI runs in its thread pool, and one process.
"""

import os
from typing import Annotated, Any

from fastapi import FastAPI, File, Request, Response

from benchmarks.contestants.pipeline import as_dict, as_json, from_environment

app = FastAPI()
pipeline = from_environment()


async def _detect_body(request: Request) -> Response:
    """The photo as it came."""
    found = pipeline.detect(await request.body())
    return Response(as_json(found), media_type="application/json")


def _detect_file(file: Annotated[bytes, File()]) -> dict[str, Any]:
    """The photo as a form's file."""
    return as_dict(pipeline.detect(file))


documented = os.environ.get("STYLE") == "documented"
app.post("/detect", response_model=None)(_detect_file if documented else _detect_body)
