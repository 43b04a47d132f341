"""The small gRPC server of conftest.py, which also tells of itself as a Triton does."""

import time
from typing import Any

import grpc
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2

from tests.client.conftest import Service
from tests.conftest import PROJECT

STEPS = ("preprocess", "ssd", "postprocess")
UNKNOWN = "Request for unknown model: '{}' is not found"


class Telling(Service):
    """Tells of the shipped repository's models; a test changes what it says.

    `versions` are those of ssd that are ready. Each question counts a request of a millisecond's
    work. `closed` holds the questions that are refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.version = "2.51.0"
        self.ready = True
        self.versions = ["2"]
        self.counted = 0
        self.clock_ahead = 0.0  # seconds
        self.closed: set[str] = set()
        self.key = ""  # for an inference, in the header x-key
        self.gateway: str | None = None  # what it calls itself, as if one stood before it

    def ModelInfer(self, request, context):  # noqa: N802
        if self.key and ("x-key", self.key) not in context.invocation_metadata():
            self._refuse("x-key", context)
        return super().ModelInfer(request, context)

    def ServerLive(self, request, context):  # noqa: N802
        if self.gateway:
            context.send_initial_metadata((("server", self.gateway),))
        return service_pb2.ServerLiveResponse(live=True)

    def ServerMetadata(self, request, context):  # noqa: N802
        self._admit("metadata", context)
        return service_pb2.ServerMetadataResponse(name="triton", version=self.version)

    def ServerReady(self, request, context):  # noqa: N802
        return service_pb2.ServerReadyResponse(ready=self.ready)

    def ModelReady(self, request, context):  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=True)

    def ModelMetadata(self, request, context):  # noqa: N802
        self._admit("metadata", context)
        config = self._config(request.name, context)
        answer = service_pb2.ModelMetadataResponse(name=request.name)
        answer.versions.extend(self.versions if request.name == "ssd" else ["1"])
        for tensors, told in ((config.input, answer.inputs), (config.output, answer.outputs)):
            for tensor in tensors:
                told.add(name=tensor.name, datatype=datatype(tensor), shape=[-1, *tensor.dims])
        return answer

    def ModelConfig(self, request, context):  # noqa: N802
        self._admit("model-config", context)
        return service_pb2.ModelConfigResponse(config=self._config(request.name, context))

    def ModelStatistics(self, request, context):  # noqa: N802
        self._admit("statistics", context)
        self.counted += 1
        answer = service_pb2.ModelStatisticsResponse()
        for name, version in zip(STEPS, ("1", (self.versions or ["1"])[-1], "1"), strict=True):
            now = int(1000 * (time.time() + self.clock_ahead))
            told = answer.model_stats.add(name=name, version=version, last_inference=now)
            told.inference_stats.success.count = self.counted
            told.inference_stats.compute_infer.ns = self.counted * 1_000_000
        return answer

    def _admit(self, question: str, context: grpc.ServicerContext) -> None:
        if question in self.closed:
            self._refuse(question, context)

    def _refuse(self, header: str, context: grpc.ServicerContext) -> None:
        words = f"This protocol is restricted, expecting header '{header}'"
        context.abort(grpc.StatusCode.UNAVAILABLE, words)

    def _config(self, name: str, context: grpc.ServicerContext) -> model_config_pb2.ModelConfig:
        stable = name.removesuffix("_canary")
        path = PROJECT / "model_repository" / stable / "config.pbtxt"
        if not path.is_file() or (name != stable and self.canary is None):
            context.abort(grpc.StatusCode.NOT_FOUND, UNKNOWN.format(name))
        config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        config.name = name
        if name != stable:
            for key, value in (self.canary or {}).items():
                config.parameters[key].string_value = value
            config.ensemble_scheduling.step[1].model_version = int(self.versions[-1])
        return config


def datatype(tensor: Any) -> str:
    """Return a tensor's type as the protocol names it."""
    name = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name
