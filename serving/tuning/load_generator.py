"""Loads a server with photos in closed loop, from a process of its own that costs it little.

It shares the cores that it loads, so requests are serialised once, answers are not parsed, and one
thread sends them all. `Generator` is the near end, this module run as a program the far one. That
reads lines of JSON: the first is {"url", "model", "photos": paths}, each further one
{"concurrency", "seconds"}; it answers each of those with a line, the fields of `Sample`.
"""

import gc
import itertools
import json
import queue
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from serving.errors import TuneError

METHOD = "/inference.GRPCInferenceService/ModelInfer"
RAMP = 0.3  # seconds until the load counts
PATIENCE = 60.0  # seconds for one answer
clock = time.perf_counter


@dataclass(frozen=True)
class Sample:
    """What came of some seconds of load.

    Attributes:
        seconds: how long answers were counted.
        latencies: of each one counted, in ms.
        failures: requests that failed.
        error: why the first one did.
    """

    seconds: float
    latencies: Sequence[float]
    failures: int = 0
    error: str = ""


class Generator:
    """The process that sends the load. A context manager.

    Args:
        url: host and gRPC port.
        model: takes photos.
        photos: files that are sent in turn.
    """

    def __init__(self, url: str, model: str, photos: Sequence[Path]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serving.tuning.load_generator"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        paths = [str(photo.resolve()) for photo in photos]
        self._send({"url": url, "model": model, "photos": paths})

    def __enter__(self) -> "Generator":
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # closes its pipes
            self._process.kill()

    def send_load(self, concurrency: int, seconds: float) -> Sample:
        """Keep so many requests under way for so many seconds.

        Raises:
            TuneError: the process ended.
        """
        self._send({"concurrency": concurrency, "seconds": seconds})
        assert self._process.stdout
        if not (line := self._process.stdout.readline()):
            raise TuneError(f"the load generator ended with exit code {self._process.wait()}")
        return Sample(**json.loads(line))

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin
        try:
            print(json.dumps(message), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return  # `send_load` tells


class Channel:
    """Sends serialised requests to one server and keeps what came of them."""

    def __init__(self, url: str, requests: Sequence[bytes]) -> None:
        options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(url, options)
        self._call = self._channel.unary_unary(METHOD)
        self._turn: Iterator[bytes] = itertools.cycle(requests)
        self._answers: queue.SimpleQueue[tuple[float, float, str]] = queue.SimpleQueue()

    def send_load(self, concurrency: int, seconds: float) -> Sample:
        """Keep so many under way. Counted are answers that come in a window of time.

        So the begin and the end, when fewer are under way, are not in the throughput.
        """
        start = clock() + min(RAMP, seconds)
        end = start + seconds
        for _ in range(concurrency):
            self._send()
        latencies, errors, under_way = [], [], concurrency
        while under_way:
            began, ended, error = self._answers.get()
            if ended < end:
                self._send()
            else:
                under_way -= 1
            if error:
                errors.append(error)
            elif start <= ended < end:
                latencies.append(1000 * (ended - began))
        return Sample(seconds, latencies, len(errors), (errors or [""])[0])

    def _send(self) -> None:
        began = clock()

        def done(call: Any) -> None:  # in gRPC's thread
            code = call.code()
            error = "" if code is grpc.StatusCode.OK else f"{code.name} {call.details()}"
            self._answers.put((began, clock(), error))

        self._call.future(next(self._turn), timeout=PATIENCE).add_done_callback(done)


def serialise_request(photo: bytes, model: str, tensor: str = "image") -> bytes:
    """A ModelInferRequest with one photo, BYTES [1, 1]."""
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name=tensor, datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(struct.pack("<I", len(photo)) + photo)
    return bytes(request.SerializeToString())


def main() -> None:
    """Obey until the input ends, which it may do before it began: the near end is interrupted."""
    if not (line := sys.stdin.readline()):
        return
    setup = json.loads(line)
    photos = [Path(path).read_bytes() for path in setup["photos"]]
    channel = Channel(setup["url"], [serialise_request(photo, setup["model"]) for photo in photos])
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(asdict(channel.send_load(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
