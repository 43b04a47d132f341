"""An image as OpenTelemetry's spans and metrics, named as its semantic conventions say.

| span | kind | what |
|---|---|---|
| detect | INTERNAL | one image, from reading its file to its result |
| the method of gRPC, or that of HTTP and a path | CLIENT | one try, a child of that |

A CLIENT span is one request, with one server on its other side: an image may take several.

| metric | unit | attributes |
|---|---|---|
| ssd.client.image.duration, a histogram | s | ssd.model; error.type: the DetectorError's name |
| ssd.client.retries | {retry} | error.type: of the try before |
| ssd.client.refusals | {refusal} | server.address, server.port: who said when to come again |

No span holds a photo, its name, or a key.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from opentelemetry import context, metrics, trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from client.detection import Result
from client.errors import DetectorError, Refused
from client.telemetry.observation import Headers, Observation
from client.transports.addresses import Address, model_path

SCOPE = "ssd-on-triton.client"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # seconds
RPC_METHOD = "inference.GRPCInferenceService/ModelInfer"
Facts = dict[str, str | int]
W3C = TraceContextTextMapPropagator()  # what Envoy and Triton read

_tracer = trace.get_tracer(SCOPE)
_meter = metrics.get_meter(SCOPE)
_duration = _meter.create_histogram(
    "ssd.client.image.duration",
    unit="s",
    description="From an image to its result, all tries together.",
    explicit_bucket_boundaries_advisory=BUCKETS,
)
_retries = _meter.create_counter(
    "ssd.client.retries", unit="{retry}", description="Tries that followed a failed one."
)
_refusals = _meter.create_counter(
    "ssd.client.refusals",
    unit="{refusal}",
    description="Tries that were refused with a time to come again.",
)


def is_heard() -> bool:
    """Whether the program has set a provider: those of the API itself do nothing."""
    providers = trace.get_tracer_provider(), metrics.get_meter_provider()
    own = ("opentelemetry.trace", "opentelemetry.metrics")
    return not all(type(provider).__module__.startswith(own) for provider in providers)


class ImageSpan(Observation):
    """One image's span, current while the image is on its way."""

    def __init__(self, model: str) -> None:
        self._facts: Facts = {"ssd.model": model}
        self._tries = 0

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        self._span = _tracer.start_span("detect", attributes=self._facts)
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, *failure: object) -> None:
        if isinstance(failure[0], type):
            self._facts["error.type"] = failure[0].__name__
            self._span.set_status(StatusCode.ERROR)  # no words: they name the image's file
        _duration.record(time.perf_counter() - self._began, self._facts)
        self._span.set_attributes({**self._facts, "ssd.tries": self._tries})
        context.detach(self._token)
        self._span.end()

    def note_size(self, size: int) -> None:
        """See Observation."""
        self._span.set_attribute("ssd.image.bytes", size)

    def note_result(self, result: Result) -> None:
        """See Observation."""
        self._facts["ssd.model"] = result.model
        self._span.set_attribute("ssd.detections", len(result.detections))

    def note_retry(self, error: DetectorError) -> None:
        """See Observation."""
        _retries.add(1, {"error.type": type(error).__name__})

    @contextmanager
    def observe_try(self, address: Address, model: str) -> Iterator[Headers]:
        """See Observation."""
        name, facts = _describe_try(address, model, self._tries)
        self._tries += 1
        with _tracer.start_as_current_span(
            name,
            kind=SpanKind.CLIENT,
            attributes=facts,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            headers: dict[str, str] = {}
            if span.get_span_context().trace_flags.sampled:  # Triton 2.51 would trace the others
                W3C.inject(headers)
            try:
                yield headers
            except BaseException as error:
                _note_failure(span, address, error)
                raise
            span.set_attributes(_status_of(address, "OK", 200))


def _describe_try(address: Address, model: str, before: int) -> tuple[str, Facts]:
    """Return a try's name and attributes; `before` tries have failed."""
    facts: Facts = _server_of(address) | {"ssd.model": model}
    if address.protocol == "gRPC":
        return RPC_METHOD, facts | {"rpc.system.name": "grpc", "rpc.method": RPC_METHOD}
    path = f"{address.path}{model_path(model)}/infer"
    facts["http.request.method"] = "POST"
    facts["url.full"] = f"{address.scheme}://{address.authority}{path}"
    if before:
        facts["http.request.resend_count"] = before
    return "POST /v2/models/{model}/infer", facts


def _server_of(address: Address) -> Facts:
    return {"server.address": address.host.strip("[]"), "server.port": address.port}


def _status_of(address: Address, status: str, http_status: int | None) -> Facts:
    if address.protocol == "gRPC":
        return {"rpc.response.status_code": status}
    return {} if http_status is None else {"http.response.status_code": http_status}


def _note_failure(span: Span, address: Address, error: BaseException) -> None:
    kind = type(error).__name__
    if isinstance(error, Refused):
        kind = str(error.http_status or error.status)
        span.set_attributes(_status_of(address, error.status, error.http_status))
        if error.retry_after is not None:
            _refusals.add(1, _server_of(address))
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)
