"""A genuine OpenTelemetry collector, Rotel, and behind it what keeps the spans that it sends on."""

import gzip
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from serving.server.prerequisites import choose_ports
from tests.conftest import wait_until

KINDS = ("", "internal", "server", "client", "producer", "consumer")


@dataclass(frozen=True)
class Span:
    """One span as it was received; ids in hexadecimal, `parent` empty for a root."""

    service: str
    instance: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    start: int  # nanoseconds since the epoch
    end: int
    attributes: dict[str, Any] = field(hash=False)
    failed: bool = False


class Sink(ThreadingHTTPServer):
    """Keeps the spans that are sent to it by OTLP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Export)
        self.spans: list[Span] = []


class _Export(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        if self.path == "/v1/traces":
            self.server.spans += _read_spans(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _read_spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        facts = _read_attributes(resource.resource.attributes)
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            yield Span(
                service=facts.get("service.name", ""),
                instance=facts.get("service.instance.id", ""),
                name=span.name,
                kind=KINDS[span.kind],
                trace=span.trace_id.hex(),
                id=span.span_id.hex(),
                parent=span.parent_span_id.hex(),
                start=span.start_time_unix_nano,
                end=span.end_time_unix_nano,
                attributes=_read_attributes(span.attributes),
                failed=span.status.code == span.status.STATUS_CODE_ERROR,
            )


def _read_attributes(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@dataclass
class Collector:
    """A collector that runs; `url` is that of OTLP by HTTP."""

    url: str
    process: subprocess.Popen[bytes]
    sink: Sink

    def spans(self, trace: str) -> list[Span]:
        """What has come of a trace, in the order in which they began."""
        found = [span for span in self.sink.spans if span.trace == trace]
        return sorted(found, key=lambda span: span.start)

    def wait_for(self, trace: str, count: int) -> list[Span]:
        """The spans of a trace, when there are so many."""
        wait_until(lambda: len(self.spans(trace)) >= count)
        return self.spans(trace)


@contextmanager
def collecting(folder: Path) -> Iterator[Collector]:
    """Run a collector; its log is written into the folder."""
    spec = find_spec("rotel")
    assert spec
    assert spec.origin
    program = Path(spec.origin).with_name("rotel-agent")
    ports = choose_ports({"http": ("127.0.0.1", 0), "grpc": ("127.0.0.1", 0)})
    with Sink() as sink:
        thread = Thread(target=sink.serve_forever, args=[0.02])
        thread.start()
        command = [str(program), "start", "--batch-timeout=100ms", "--exporter=otlp"]
        command += [f"--otlp-http-endpoint=127.0.0.1:{ports['http']}"]
        command += [f"--otlp-grpc-endpoint=127.0.0.1:{ports['grpc']}"]
        command += [f"--otlp-exporter-endpoint=http://127.0.0.1:{sink.server_port}"]
        command += ["--otlp-exporter-protocol=http"]
        with (folder / "collector.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield Collector(f"http://127.0.0.1:{ports['http']}", process, sink)
        finally:
            process.terminate()
            process.wait()
            sink.shutdown()
            thread.join()
