"""Talks to a running tritonserver over gRPC: a real inference, loading and unloading."""

import os
import secrets
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tritonclient.grpc as grpc_client
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from serving.errors import PrerequisiteError
from serving.model_config import is_python

# Of its own, so that failed attempts before a restart do not delay the first one after it.
CHANNEL = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]
KEY_HEADER = "triton-grpc-protocol-admin-key"
CHECK = {"x-probe": True}  # a request's parameter: the models do not count it as a user's


def find_admin_key(given: str) -> str:
    """The key that was given, else TRITON_ADMIN_KEY, else what TRITON_ADMIN_KEY_FILE holds.

    Empty where there is none.

    Raises:
        PrerequisiteError: the file cannot be read.
    """
    file = os.environ.get("TRITON_ADMIN_KEY_FILE", "")
    key = given or os.environ.get("TRITON_ADMIN_KEY", "")
    if key or not file:
        return key
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PrerequisiteError(f"TRITON_ADMIN_KEY_FILE is {file}: {error}") from None


class Control:
    """One connection to one server. A context manager.

    Args:
        grpc_url: host and port.
        admin_key: opens the calls that are restricted, loading and unloading among them.

    Every method raises InferenceServerException, with the status and message of a failure.
    """

    def __init__(self, grpc_url: str, admin_key: str) -> None:
        self.url = grpc_url
        self._client = grpc_client.InferenceServerClient(grpc_url, channel_args=CHANNEL)
        self._headers = {KEY_HEADER: admin_key}

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def infer(self, model: str, timeout: float, trace: str = "") -> None:
        """Send a small generated photo through the model.

        Args:
            model: the model that takes encoded images, by its name.
            timeout: seconds.
            trace: 32 hexadecimal digits, by which a server that traces shall know the request:
                https://www.w3.org/TR/trace-context/#traceparent-header
        """
        image = grpc_client.InferInput("image", [1, 1], "BYTES")
        image.set_data_from_numpy(np.array([[sample_photo()]], dtype=object))
        traced = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"} if trace else None
        self._client.infer(model, [image], headers=traced, client_timeout=timeout, parameters=CHECK)

    def ask(self, model: str, version: str, answered: Callable[[], object]) -> Callable[[], object]:
        """Send a sample of each of the model's inputs, without a limit of time.

        Args:
            model: any model.
            version: empty for the one that its policy chooses.
            answered: called once there is an answer, good or bad.

        Returns:
            What gives the request up.
        """
        inputs = [sample(tensor) for tensor in self.metadata(model, version)]
        context = self._client.async_infer(
            model,
            inputs,
            lambda result, error: answered(),
            model_version=version,
            parameters=CHECK,
        )
        return context.cancel

    def metadata(self, model: str, version: str, timeout: float = 5.0) -> Any:
        """The model's inputs as it announces them: name, datatype, shape with the batch."""
        return self._client.get_model_metadata(model, version, client_timeout=timeout).inputs

    def finished(self, model: str, version: str, timeout: float = 5.0) -> int:
        """How many requests the model has finished, well or not."""
        found = self._client.get_inference_statistics(model, version, client_timeout=timeout)
        each = [model.inference_stats for model in found.model_stats]
        return sum(one.success.count + one.fail.count for one in each)

    def triton_version(self, timeout: float = 5.0) -> str:
        """The server's release, such as 2.51.0."""
        return str(self._client.get_server_metadata(client_timeout=timeout).version)

    def is_live(self, timeout: float = 5.0) -> bool:
        """Whether the server answers, whatever of its models."""
        try:
            return bool(self._client.is_server_live(client_timeout=timeout))
        except InferenceServerException:
            return False

    def is_ready(self, timeout: float = 2.0) -> bool:
        """Whether the server answers and all its models are ready."""
        try:
            return bool(self._client.is_server_ready(client_timeout=timeout))
        except InferenceServerException:
            return False

    def models(self, *states: str, timeout: float = 5.0) -> list[str]:
        """The name of each version of a model that is in one of the states, READY and the like."""
        return sorted(model.name for model in self._index(timeout) if model.state in states)

    def loaded(self, timeout: float = 5.0) -> list[str]:
        """The name of each version of a model that is ready.

        Unlike `models` this asks the server only: its answer comes although the repository is away,
        and counts models whose files are gone.
        """
        statistics = self._client.get_inference_statistics(client_timeout=timeout)
        return sorted(model.name for model in statistics.model_stats)

    def loaded_versions(self, timeout: float = 5.0) -> dict[str, set[int]]:
        """The versions of each model that are ready; as `loaded`, the server only is asked."""
        found: dict[str, set[int]] = {}
        for model in self._client.get_inference_statistics(client_timeout=timeout).model_stats:
            found.setdefault(model.name, set()).add(int(model.version))
        return dict(sorted(found.items()))

    def config(self, model: str, timeout: float = 5.0) -> model_config_pb2.ModelConfig:
        """The configuration a model runs with."""
        return self._client.get_model_config(model, client_timeout=timeout).config

    def has_version(self, model: str, version: str, timeout: float = 5.0) -> bool:
        """Whether this version of the model is ready."""
        return bool(self._client.is_model_ready(model, version, client_timeout=timeout))

    def versions(self, model: str, *states: str, timeout: float = 5.0) -> set[str]:
        """The versions of the model that are in one of the states."""
        return {m.version for m in self._index(timeout) if m.name == model and m.state in states}

    def failed_to_load(self, model: str, version: int, timeout: float = 5.0) -> bool:
        """Whether the server holds it against this version that it did not load."""
        states = {(m.name, m.version): (m.state, m.reason) for m in self._index(timeout)}
        state, reason = states.get((model, str(version)), ("", ""))
        return state == "UNAVAILABLE" and reason != "unloaded"

    def answered(self, model: str, version: str, timeout: float = 5.0) -> int:
        """How many requests this version has answered since it was loaded."""
        statistics = self._client.get_inference_statistics(model, version, client_timeout=timeout)
        return sum(each.inference_stats.success.count for each in statistics.model_stats)

    def infer_network(
        self, model: str, version: str, images: np.ndarray, timeout: float
    ) -> np.ndarray:
        """Send images to one version of a network, past the ensemble.

        Args:
            images: uint8 [B, S, S, 3].
            timeout: seconds.

        Returns:
            `scores`, float32 [B, K, C].
        """
        tensor = grpc_client.InferInput("images", list(images.shape), "UINT8")
        tensor.set_data_from_numpy(images)
        answer = self._client.infer(model, [tensor], version, client_timeout=timeout)
        return np.asarray(answer.as_numpy("scores"))

    def _index(self, timeout: float) -> Any:
        """Every version that is in the repository or was: name, version, state, reason."""
        answer = self._client.get_model_repository_index(
            headers=self._headers, client_timeout=timeout
        )
        return answer.models

    def is_python(self, model: str) -> bool:
        """Whether stubs run the model: the Python backend, or a backend written in Python."""
        return is_python(self.config(model))

    def instances(self, model: str) -> int:
        """How many instances of one version of the model there should be."""
        return sum(max(1, group.count) for group in self.config(model).instance_group) or 1

    def load(self, model: str, timeout: float = 120.0, config: str = "") -> None:
        """Load the model, or what is new of it.

        Args:
            config: as JSON, instead of its config.pbtxt.
        """
        self._client.load_model(
            model, headers=self._headers, config=config or None, client_timeout=timeout
        )

    def unload(self, model: str, timeout: float = 60.0) -> None:
        """Unload the model and nothing that depends on it. Returns before that is finished."""
        self._client.unload_model(model, headers=self._headers, client_timeout=timeout)


def sample(tensor: Any) -> grpc_client.InferInput:
    """Zeros for an input, of the least size; the sample photo where it takes bytes."""
    shape = [max(1, size) for size in tensor.shape]
    if tensor.datatype == "BYTES":
        values = np.full(shape, sample_photo(), dtype=object)
    else:
        values = np.zeros(shape, triton_to_np_dtype(tensor.datatype))
    made = grpc_client.InferInput(tensor.name, shape, tensor.datatype)
    made.set_data_from_numpy(values)
    return made


@cache
def sample_photo() -> bytes:
    """A small grey JPEG with one dark disc: enough for a real inference."""
    photo = np.full((64, 64, 3), 200, np.uint8)
    cv2.circle(photo, (32, 32), 20, (80, 60, 160), thickness=-1)
    return bytes(cv2.imencode(".jpg", photo)[1])
