"""Asks Triton for one real inference. Exit code 0: it answered, 1: it did not, 2: wrong usage.

Readiness alone is not enough: a Python model whose process has died keeps it at "ready" (until
release 26.04) while every request fails. So a picture of one pixel goes through the whole
ensemble, over HTTP with Triton's binary tensor extension. Standard library only, and no proxy:
it runs inside the Triton image, beside the server.

    python3 healthcheck.py [HOST:PORT] [--model ensemble] [--timeout 5]
"""

import argparse
import base64
import json
import struct
import sys
import time
from http.client import HTTPConnection, HTTPException
from typing import Any

PIXEL = base64.b64decode(  # a PNG of one grey pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mNoaGgAAAMEAYF1LgG8AAAAAElFTkSuQmCC"
)
OUTPUT = "num_detections"


class UnhealthyError(Exception):
    """The server did not answer as it should; the message says what it did."""


def request_body(image: bytes) -> tuple[bytes, int]:
    """The body of an inference request for one image, and the length of its JSON part, bytes."""
    tensor = struct.pack("<I", len(image)) + image  # a BYTES element: its length, then its bytes
    header = {
        "parameters": {"x-probe": True},  # the models do not count it as a user's
        "inputs": [
            {
                "name": "image",
                "shape": [1, 1],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": len(tensor)},
            }
        ],
        "outputs": [{"name": OUTPUT}],
    }
    text = json.dumps(header).encode()
    return text + tensor, len(text)


def detections(answer: Any) -> int:
    """The number of detections in the server's answer.

    Raises:
        UnhealthyError: the answer is not that of a detection ensemble.
    """
    try:
        (output,) = answer["outputs"]
        (count,) = output["data"]
    except (KeyError, TypeError, ValueError):
        raise UnhealthyError(f"expected one number called {OUTPUT}, found {answer}") from None
    return int(count)


def infer(address: str, model: str, timeout: float) -> int:
    """Send the pixel to `model` at `address` (HOST:PORT); wait `timeout` seconds at most."""
    body, json_length = request_body(PIXEL)
    connection = HTTPConnection(address, timeout=timeout)
    try:
        headers = {"Inference-Header-Content-Length": str(json_length)}
        connection.request("POST", f"/v2/models/{model}/infer", body, headers)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    finally:
        connection.close()
    if response.status != 200:
        raise UnhealthyError(f"status {response.status}: {text[:200]}")
    return detections(json.loads(text))


def main() -> int:
    """Parse, ask, and say in one line what came of it."""
    parser = argparse.ArgumentParser(description="Ask Triton for one real inference.")
    parser.add_argument("address", nargs="?", default="127.0.0.1:8000", help="Triton's HTTP port")
    parser.add_argument("--model", default="ensemble", help="model to ask (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds (default: %(default)s)")
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        infer(arguments.address, arguments.model, arguments.timeout)
    except (UnhealthyError, OSError, HTTPException, ValueError) as error:
        print(f"unhealthy: {arguments.model} at {arguments.address}: {error}")
        return 1
    print(f"healthy: an inference took {1000 * (time.monotonic() - started):.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
