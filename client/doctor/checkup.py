"""What is to be said of a server: one finding a thing, and what to do where something is wrong.

The order is that of a request's way: the connection, the server, its models, a real inference. What
cannot be looked at because something before it is wrong is left out.
"""

import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from statistics import median
from typing import Any
from urllib.request import proxy_bypass

import cv2
import numpy as np
from tritonclient.utils import InferenceServerException

from client.detector import Detector
from client.doctor.diagnosis import (
    Finding,
    failed,
    ok,
    unreached,
    warning,
    wrong,
)
from client.errors import DetectorError, ServerError, ServerUnavailable
from client.server_api import connect
from client.service import Ensemble, Service, describe, labels, step_times, totals
from client.service.supervision import parse_supervision, read_metrics
from client.transports.addresses import Address
from client.transports.security import Security

OLDEST = (2, 51)  # the oldest Triton that this project is tried with
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")  # in the order in which gRPC looks
WIDTH, HEIGHT = 640, 480  # of the generated photo
LATENCY_SECONDS = 10.0  # after which no further request is sent
PORT_SECONDS = 3.0  # for each attempt to see what listens at the port
TROUBLED = "The lines of `serving up` say more, in its terminal or its journal."
CLOCK_SECONDS = 5.0  # that two clocks may differ
Tensors = dict[str, str]  # types by name
INPUTS = {"image": "BYTES"}
OUTPUTS = {
    "num_detections": "INT32",
    "detection_boxes": "FP32",
    "detection_scores": "FP32",
    "detection_classes": "INT32",
    "detection_labels": "BYTES",
    "image_size": "INT32",
}


class Checkup:
    """One look at one server.

    Args:
        address: of its gRPC or HTTP port.
        security: how to get in.
        model: the ensemble's name.
        requests: how many inferences measure the latency.
        timeout: seconds that one request may take.
        metrics_url: of `serving up`; empty: it is not asked.
    """

    def __init__(
        self,
        address: Address,
        security: Security,
        *,
        model: str,
        requests: int,
        timeout: float,
        metrics_url: str = "",
    ) -> None:
        self.address = address
        self.security = security
        self.model = model
        self.requests = requests
        self.timeout = timeout
        self.metrics_url = metrics_url
        self._detector(model).close()  # an option that makes no sense is told at once
        self._server = connect(address.text, security)

    def findings(self) -> Iterator[Finding]:
        """Yield each finding as soon as it is known."""
        with self._server:
            yield from self._supervision()
            yield from self._proxy()
            service = describe(self._server, self.model, self.timeout)
            if not service.reached:
                seconds = min(self.timeout, PORT_SECONDS)
                yield unreached(self.address, self.security, service, seconds)
                return
            yield ok("connection", f"{self.address.protocol} at {self.address}")
            yield from _gateway(service.gateway)
            yield _server(service)
            if fault := self._model_fault(service):
                yield fault
                return
            yield _versions(service, self.model)
            yield from self._inferences(service)

    def _inferences(self, service: Service) -> Iterator[Finding]:
        try:
            with self._detector(self.model) as detector:
                result = detector.detect(photo())
                size = f"{result.width}x{result.height} pixels, {len(photo()) / 1000:.0f} kB"
                count = len(result.detections)
                yield ok("inference", f"a generated photo ({size}) was answered, boxes: {count}")
                yield _labels(labels(detector), service.settings.classes)
                yield self._latency(detector, service)
        except DetectorError as error:
            yield failed(error, service)
            return
        yield from self._clock(service)
        yield from self._canary(service.canary)

    def _detector(self, model: str) -> Detector:
        return Detector(
            self.address.text,
            model=model,
            timeout=self.timeout,
            retries=0,
            security=self.security,
        )

    def _supervision(self) -> Iterator[Finding]:
        if not self.metrics_url:
            return
        try:
            told = parse_supervision(read_metrics(self.metrics_url, self.timeout))
        except (ServerUnavailable, ServerError) as error:
            remedy = "`serving up` says at its start where its metrics of probes and restarts are."
            yield warning("supervision", f"{self.metrics_url}: {error}", remedy)
            return
        if trouble := told.trouble():
            yield warning("supervision", f"{trouble}; {told}", TROUBLED, **asdict(told))
        else:
            yield ok("supervision", str(told), **asdict(told))

    def _proxy(self) -> Iterator[Finding]:
        if self.address.protocol != "gRPC" or self.address.is_loopback:
            return
        name = next((name for name in PROXIES if os.environ.get(name)), None)
        if name and not proxy_bypass(self.address.host):
            text = f"requests go through {os.environ[name]}, which the environment's {name} names"
            remedy = f"If the server is in your own network: export no_proxy={self.address.host}"
            yield warning("proxy", text, remedy)

    # The model.

    def _model_fault(self, service: Service) -> Finding | None:
        """What keeps the model from taking photos; None where that is not known of."""
        if service.ensemble is None and any("no available versions" in it for it in service.untold):
            text = f"no version of the model {self.model} is ready"
            return wrong(
                "model", text, "It is being loaded, was unloaded, or failed to: see the log."
            )
        if service.ensemble is None and any("nknown model" in line for line in service.untold):
            return wrong("model", f"the server has no model {self.model}", self._others())
        signature = self._signature(self.model)
        if signature is None or _suits(*signature):
            return None
        took, gave = map(_tensor_list, signature)
        text = f"the model {self.model} takes {took} and gives {gave}: not photos and detections"
        return wrong("model", text, self._others())

    def _others(self) -> str:
        """What to do where the model is another one."""
        ready = sorted({counted.name for counted in self._statistics()})
        suiting = [name for name in ready if (it := self._signature(name)) and _suits(*it)]
        if suiting:
            return f"Name another one with --model: {', '.join(suiting)}."
        if ready:
            return f"It serves {', '.join(ready)}: is that the right server and repository?"
        return "It serves no model at all, or does not tell; its log says why none was loaded."

    def _signature(self, model: str) -> tuple[Tensors, Tensors] | None:
        """The model's tensors by name, inputs and outputs; None where they are not told."""
        try:
            metadata = self._server.get_model_metadata(model, client_timeout=self.timeout)
        except InferenceServerException:
            return None
        inputs, outputs = metadata.inputs, metadata.outputs
        return {it.name: it.datatype for it in inputs}, {it.name: it.datatype for it in outputs}

    # Time.

    def _latency(self, detector: Detector, service: Service) -> Finding:
        before = totals(self._server, self.timeout)
        times, model = self._measured(detector)
        steps = step_times(self._server, before, service.answered(model), self.timeout)
        middle, high = median(times), times[math.ceil(0.99 * len(times)) - 1]
        waiting = sum(step.queue_ms for step in steps)
        parts = [f"{step.model} {step.total_ms - step.queue_ms:.1f}" for step in steps]
        inside = f"; means inside: {', '.join(parts)}, waiting {waiting:.1f}" if parts else ""
        text = f"median {middle:.1f} ms, p99 {high:.1f} ms of {len(times)} one after the other"
        facts = {"median_ms": middle, "p99_ms": high, "steps": [asdict(step) for step in steps]}
        if waiting > middle / 2:
            remedy = "The server is busy with others: give it more instances or machines."
            return warning("latency", text + inside, remedy, **facts)
        return ok("latency", text + inside, **facts)

    def _measured(self, detector: Detector) -> tuple[list[float], str]:
        """Milliseconds of some requests, the shortest first, and the ensemble that answered."""
        times: list[float] = []
        end = time.monotonic() + LATENCY_SECONDS
        while len(times) < self.requests and (not times or time.monotonic() < end):
            start = time.perf_counter()
            result = detector.detect(photo())
            times.append(1000 * (time.perf_counter() - start))
        return sorted(times), result.model

    def _clock(self, service: Service) -> Iterator[Finding]:
        if service.gateway:  # whoever is asked may have had nothing to do for a while
            return
        ours = {step.model for step in service.answered(self.model)}
        last = max((it.last_inference for it in self._statistics() if it.name in ours), default=0)
        ahead = last / 1000 - time.time()  # the last inference was a moment ago
        if last and abs(ahead) < CLOCK_SECONDS:
            yield ok("clock", "that of the server agrees with this machine's")
        elif last:
            side = "ahead of" if ahead > 0 else "behind"
            text = f"that of the server is {abs(ahead):.0f} s {side} this machine's"
            yield warning("clock", text, "Set both by NTP: certificates, logs, traces need it.")

    def _statistics(self) -> Sequence[Any]:
        """What all models have counted; nothing where it is not told."""
        try:
            answer = self._server.get_inference_statistics(client_timeout=self.timeout)
        except InferenceServerException:
            return ()
        return answer.model_stats

    def _canary(self, found: Ensemble | None) -> Iterator[Finding]:
        if found is None:
            return
        text = f"{_steps(found)} on trial for {found.share:.0%} of the keys"
        try:
            with self._detector(found.name) as detector:
                detector.detect(photo())
            yield ok("canary", text)
        except DetectorError as error:
            remedy = "The stable ensemble stands in for it; `python -m serving rollback` ends it."
            yield warning("canary", f"{text}, but it fails: {error}", remedy)


def _gateway(name: str | None) -> Iterator[Finding]:
    if name:
        text = f"{name}, which passes each request on to one of its servers"
        remedy = (
            "The versions below are those of one of them; the times of the steps and the clock are "
            "not looked at. For these, and for all that needs the admin key, ask a server itself."
        )
        yield Finding("ok", "gateway", text, remedy, {"name": name})


def _server(service: Service) -> Finding:
    name = f"{service.server or 'a server'} {service.version or 'that does not tell its version'}"
    numbers = re.match(r"(\d+)\.(\d+)", service.version or "")
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        text = f"{name} is older than what this project is tried with"
        return warning("server", text, f"Take {OLDEST[0]}.{OLDEST[1]} (release 24.10) or newer.")
    if service.ready is False:
        text = f"{name} says that it is not ready: a version of some model did not load"
        return warning("server", text, "Its log says which and why. Others go on meanwhile.")
    return ok("server", name + (", ready" if service.ready else ""))


def _versions(service: Service, model: str) -> Finding:
    if service.ensemble is None:
        reason = service.untold[-1] if service.untold else "no reason is known"
        return warning("versions", f"the server does not tell: {reason}")
    if not service.ensemble.steps:
        return ok("versions", f"{model} is no ensemble: it has no steps to tell of")
    return ok("versions", _steps(service.ensemble), **asdict(service.ensemble))


def _steps(ensemble: Ensemble) -> str:
    steps = (f"{step.model} {step.version or '(not ready)'}" for step in ensemble.steps)
    return f"{ensemble.name}: {', '.join(steps)}"


def _suits(inputs: Tensors, outputs: Tensors) -> bool:
    """Whether photos and detections can travel so."""
    return inputs == INPUTS and outputs.items() >= OUTPUTS.items()


def _tensor_list(tensors: Tensors) -> str:
    return ", ".join(f"{name} ({datatype})" for name, datatype in tensors.items()) or "nothing"


def _labels(found: dict[int, str], classes: int | None) -> Finding:
    names = ", ".join(found.values())
    facts = {"labels": {str(number): name for number, name in found.items()}, "classes": classes}
    if not all(found.values()):
        return warning("labels", f"some are empty: {names}", "Look at labels.txt.", **facts)
    some = f"{len(found)} of {classes} were seen: " if len(found) < (classes or 0) else ""
    return ok("labels", some + names, **facts)


@cache
def photo() -> bytes:
    """A JPEG of pink discs on a light ground, about what a blood smear is."""
    draw = np.random.default_rng(0)
    picture = np.full((HEIGHT, WIDTH, 3), (215, 215, 225), np.uint8)
    for x, y in draw.integers((0, 0), (WIDTH, HEIGHT), (40, 2)).tolist():
        cv2.circle(picture, (x, y), 35, (150, 130, 205), thickness=-1)
    return bytes(cv2.imencode(".jpg", picture)[1])
