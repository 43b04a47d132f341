"""Triton's backend "onnxruntime", in Python, for servers that lack the one in C++.

Serves any model whose config.pbtxt says `backend: "onnxruntime"`, with the onnxruntime package on
the CPU. It reads the same settings as the C++ backend: `default_model_filename` (else model.onnx),
and the parameters `intra_op_thread_count` and `inter_op_thread_count`. With max_batch_size > 0 the
requests that Triton hands over together go through the network as one batch.

With the parameter `threads_follow_load`, which the C++ backend passes over, and where no number of
threads is given, they follow the load: a network that runs while no other does takes every core
that the server may use, else each instance its share. So a lone request is answered sooner, and
nothing is lost under load, where two instances of one thread beat one of two.
"""

import fcntl
import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from cores import usable_cores  # serving/cores.py; in a server it lies beside this file

BYTES = "TYPE_STRING"
# Microseconds for which a thread looks out for more work before it sleeps. onnxruntime's own value
# burns a core for 20 ms after each run, with none the threads of a lone request wake too late.
SPIN = 20
DEFAULT_MAX_BATCH_SIZE = 4  # what the C++ backend assumes as well
Feed = dict[str, np.ndarray]  # a request's tensors by name


class TritonPythonModel:
    """One instance of one ONNX model."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Add the inputs, outputs and max_batch_size that config.pbtxt leaves out."""
        given = config.as_dict()
        session = open_session(Path(pb_utils.get_model_dir()), given)
        batches = _accepts_batches(session)
        if not given["max_batch_size"] and not given["input"] and batches:
            config.set_max_batch_size(DEFAULT_MAX_BATCH_SIZE)
        batched = config.as_dict()["max_batch_size"] > 0
        known = {tensor["name"] for tensor in given["input"] + given["output"]}
        for tensor in session.get_inputs():
            if tensor.name not in known:
                config.add_input(_describe_tensor(tensor, batched))
        for tensor in session.get_outputs():
            if tensor.name not in known:
                config.add_output(_describe_tensor(tensor, batched))
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Open the network and check that it has what the configuration names."""
        config = json.loads(args["model_config"])
        self.batched = config["max_batch_size"] > 0
        self.session = Session(Path(pb_utils.get_model_dir()), config)
        self.inputs = {tensor["name"]: tensor["data_type"] for tensor in config["input"]}
        self.outputs = [tensor["name"] for tensor in config["output"]]
        _check_names("input", list(self.inputs), self.session.shared.get_inputs())
        _check_names("output", self.outputs, self.session.shared.get_outputs())

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests, together if they can be joined, else one by one."""
        feeds = [self.read(request) for request in requests]
        if self.batched and len(feeds) > 1 and _joinable(feeds):
            return self.run_joined(feeds)
        return [self.run_alone(feed) for feed in feeds]

    def finalize(self) -> None:
        """Close the network."""
        del self.session

    def read(self, request: Any) -> Feed:
        """The request's tensors by name. Text is UTF-8, as ONNX has it."""
        feed = {}
        for name, data_type in self.inputs.items():
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is not None:
                array = tensor.as_numpy()
                feed[name] = decode(array) if data_type == BYTES else array
        return feed

    def run_joined(self, feeds: list[Feed]) -> list[Any]:
        """One run for all requests; if it fails, each on its own to find the one at fault."""
        joined = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
        sizes = [len(next(iter(feed.values()))) for feed in feeds]
        try:
            results = self.session.run(self.outputs, joined)
        except Exception:
            return [self.run_alone(feed) for feed in feeds]
        cuts = np.cumsum(sizes)[:-1]
        parts = zip(*(np.split(result, cuts) for result in results), strict=True)
        return [self.respond(part) for part in parts]

    def run_alone(self, feed: Feed) -> Any:
        """One run for one request; a failure is that request's alone."""
        try:
            return self.respond(self.session.run(self.outputs, feed))
        except Exception as error:
            reason = str(error).splitlines()[0][:200]
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"onnxruntime: {reason}"))

    def respond(self, arrays: Sequence[np.ndarray]) -> Any:
        """A response that carries the outputs in the configuration's order."""
        named = zip(self.outputs, arrays, strict=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in named])


class Session:
    """A network with as many threads as the moment allows.

    Args:
        version_folder: holds the ONNX file.
        config: the model's configuration.
    """

    def __init__(self, version_folder: Path, config: dict[str, Any]) -> None:
        follow = parameter(config, "threads_follow_load")
        configured = 0 if follow else parameter(config, "intra_op_thread_count")
        cores = usable_cores()
        share = configured or max(1, cores // _count_instances(config))
        self.shared = open_session(version_folder, config, share)
        self.alone = self.shared
        if not configured and share < cores:
            self.alone = open_session(version_folder, config, cores)
        self.running = Running(Path(__file__))

    def run(self, outputs: Sequence[str], feed: Feed) -> list[np.ndarray]:
        """The outputs, in the given order."""
        with self.running as alone:
            return (self.alone if alone else self.shared).run(outputs, feed)


class Running:
    """Tells whether another instance in this server runs its network at the same time.

    Who runs one holds a lock on a file that all instances share. The kernel drops the lock of a
    process that dies.
    """

    ASK = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # struct flock, 64 bits

    def __init__(self, file: Path) -> None:
        self.file = file.open("rb")

    def __enter__(self) -> bool:
        """Whether nobody else does."""
        fcntl.lockf(self.file, fcntl.LOCK_SH)  # shared, so nobody waits
        answer = fcntl.fcntl(self.file, fcntl.F_GETLK, self.ASK)
        return struct.unpack("hhqqi", answer)[0] == fcntl.F_UNLCK

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self.file, fcntl.LOCK_UN)


def decode(array: np.ndarray) -> np.ndarray:
    """BYTES as the text that ONNX Runtime takes."""
    return np.vectorize(bytes.decode, otypes=[object])(array)


def _joinable(feeds: list[Feed]) -> bool:
    """Whether the requests hold the same tensors, equal in all but the batch dimension."""
    shapes = [{name: array.shape[1:] for name, array in feed.items()} for feed in feeds]
    return bool(shapes[0]) and all(shape == shapes[0] for shape in shapes)


def open_session(
    version_folder: Path, config: dict[str, Any], threads: int = 1
) -> onnxruntime.InferenceSession:
    """Open the version's ONNX file."""
    path = version_folder / (config.get("default_model_filename") or "model.onnx")
    if not path.is_file():
        raise pb_utils.TritonModelException(f"{path.name} not found in {version_folder}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN))
    options.inter_op_num_threads = parameter(config, "inter_op_thread_count") or 1
    options.log_severity_level = 3  # errors; its warnings about the machine say nothing to act on
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _count_instances(config: dict[str, Any]) -> int:
    """How many instances the model has."""
    return sum(group.get("count") or 1 for group in config.get("instance_group", [])) or 1


def parameter(config: dict[str, Any], name: str) -> int:
    """A parameter of config.pbtxt as a whole number, 0 where it is not given."""
    given = config.get("parameters", {}).get(name, {})
    text = given.get("string_value", "0") if isinstance(given, dict) else str(given)
    if not text.isdecimal():
        raise pb_utils.TritonModelException(f"parameter {name} is {text!r}, not a whole number")
    return int(text)


def _accepts_batches(session: onnxruntime.InferenceSession) -> bool:
    """Whether the first dimension of every tensor is free."""
    tensors = session.get_inputs() + session.get_outputs()
    return all(tensor.shape and not isinstance(tensor.shape[0], int) for tensor in tensors)


def _describe_tensor(tensor: onnxruntime.NodeArg, batched: bool) -> dict[str, Any]:
    """A network's tensor in the terms of config.pbtxt; free dimensions are -1."""
    shape = tensor.shape[1:] if batched else tensor.shape
    dims = [size if isinstance(size, int) else -1 for size in shape]
    return {"name": tensor.name, "data_type": _triton_type(tensor.type), "dims": dims}


def _triton_type(onnx_type: str) -> str:
    """tensor(float) -> TYPE_FP32."""
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    special = {"float": "FP32", "double": "FP64", "float16": "FP16", "bfloat16": "BF16"}
    return "TYPE_" + special.get(name, name.upper())


def _check_names(kind: str, configured: list[str], tensors: list[onnxruntime.NodeArg]) -> None:
    """Refuse a configuration that names a tensor the network lacks."""
    present = [tensor.name for tensor in tensors]
    missing = sorted(set(configured) - set(present))
    if missing:
        raise pb_utils.TritonModelException(
            f"the network has no {kind} named {', '.join(missing)}; it has {', '.join(present)}"
        )
