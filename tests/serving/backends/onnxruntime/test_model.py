"""The backend in Python, inside the real server, with networks that are loaded from memory."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc as grpc_client
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from serving import cores
from serving.server.server import EmbeddedServer, ServerSettings
from tests.conftest import completing, wait_until

Load = Callable[..., grpc_client.InferenceServerClient]


def network(operator: str, shape: list[int | str], data_type: int = TensorProto.FLOAT) -> bytes:
    """One operator on one input `x`, giving `y`."""
    x = helper.make_tensor_value_info("x", data_type, shape)
    y = helper.make_tensor_value_info("y", data_type, shape)
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


@pytest.fixture(scope="module")
def own_server(project_repository: Path) -> Iterator[EmbeddedServer]:
    """A server of this module's own: one that unloaded a model is no longer ready as a whole."""
    with completing(), EmbeddedServer(ServerSettings(project_repository)) as running:
        yield running


@pytest.fixture
def load(own_server: EmbeddedServer) -> Iterator[Load]:
    """load(network, file name, **settings): put a model named `probe` into the server."""
    with own_server.control() as control:
        client, headers = control._client, control._headers

        def put(
            content: bytes, file: str = "model.onnx", **settings: object
        ) -> grpc_client.InferenceServerClient:
            config = json.dumps({"backend": "onnxruntime", **settings})
            files = {f"file:1/{file}": content}
            client.load_model("probe", headers=headers, config=config, files=files)
            return client

        yield put
        client.unload_model("probe", headers=headers)


def infer(client: grpc_client.InferenceServerClient, array: np.ndarray) -> np.ndarray:
    """One request to `probe`."""
    x = grpc_client.InferInput("x", array.shape, np_to_triton_dtype(array.dtype))
    x.set_data_from_numpy(array)
    return client.infer("probe", [x], client_timeout=20).as_numpy("y")


def test_configuration_is_completed(load: Load) -> None:
    client = load(network("Neg", ["batch", 2, "width"]))
    config = client.get_model_config("probe").config
    assert config.max_batch_size == 4
    assert [(t.name, t.data_type, list(t.dims)) for t in [*config.input, *config.output]] == [
        ("x", 11, [2, -1]),  # 11: TYPE_FP32
        ("y", 11, [2, -1]),
    ]
    array = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    np.testing.assert_array_equal(infer(client, array), -array)


def test_without_batching(load: Load) -> None:
    client = load(network("Neg", [3]))
    assert client.get_model_config("probe").config.max_batch_size == 0
    np.testing.assert_array_equal(infer(client, np.ones(3, np.float32)), -np.ones(3))


def test_file_name_from_the_configuration(load: Load) -> None:
    client = load(network("Abs", ["b", 1]), "other.onnx", default_model_filename="other.onnx")
    assert infer(client, -np.ones((1, 1), np.float32)) == 1


def test_requests_that_come_together_run_as_one_batch(load: Load) -> None:
    waiting = {"max_queue_delay_microseconds": 3_000_000, "preferred_batch_size": [8]}
    client = load(network("Neg", ["b", 2]), max_batch_size=8, dynamic_batching=waiting)
    arrays = [np.full((rows, 2), rows, np.float32) for rows in (1, 2, 3, 2)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda array: infer(client, array), arrays))
    for array, answer in zip(arrays, answers, strict=True):
        np.testing.assert_array_equal(answer, -array)
    assert count_runs(client, 8) == 1


def count_runs(client: grpc_client.InferenceServerClient, rows: int) -> int:
    """How many runs the rows took; Triton counts a moment after it answers."""

    def statistics() -> Any:
        return client.get_inference_statistics("probe").model_stats[0]

    wait_until(lambda: statistics().inference_count == rows)
    return int(statistics().execution_count)


def test_requests_of_different_widths_run_one_by_one(load: Load) -> None:
    waiting = {"max_queue_delay_microseconds": 300_000, "preferred_batch_size": [4]}
    client = load(network("Neg", ["b", "w"]), max_batch_size=4, dynamic_batching=waiting)
    arrays = [np.ones((1, width), np.float32) for width in (1, 2, 3, 4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda array: infer(client, array), arrays))
    assert [answer.shape for answer in answers] == [(1, 1), (1, 2), (1, 3), (1, 4)]


def test_text(load: Load) -> None:
    client = load(network("Identity", ["b", 1], TensorProto.STRING))
    array = np.array([["Zelle"], ["細胞".encode()]], dtype=object)
    assert infer(client, array).tolist() == [[b"Zelle"], ["細胞".encode()]]


def test_failing_run_is_that_requests_error_and_short(load: Load) -> None:
    reshape = helper.make_node("Reshape", ["x", "s"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 2])
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [-1, 2])
    graph = helper.make_graph([reshape], "g", [x], [y], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    client = load(model.SerializeToString())
    with pytest.raises(InferenceServerException) as caught:
        infer(client, np.ones((1, 3), np.float32))
    assert caught.value.message().startswith("onnxruntime: ")
    assert len(caught.value.message()) < 250
    assert infer(client, np.ones((1, 2), np.float32)).shape == (1, 2)


@pytest.mark.parametrize(
    ("content", "settings", "words"),
    [
        (b"junk", {}, "model.onnx"),
        (
            network("Neg", ["b", 1]),
            {
                "max_batch_size": 1,
                "input": [{"name": "z", "data_type": "TYPE_FP32", "dims": [1]}],
                "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [1]}],
            },
            "no input named z; it has x",
        ),
        (
            network("Neg", ["b", 1]),
            {"parameters": {"intra_op_thread_count": {"string_value": "two"}}},
            "intra_op_thread_count is 'two', not a whole number",
        ),
        (network("Neg", ["b", 1]), {"default_model_filename": "no.onnx"}, "no.onnx not found"),
    ],
    ids=["junk", "names", "threads", "file"],
)
def test_model_that_cannot_load_says_why(
    content: bytes, settings: dict[str, object], words: str, load: Load
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        load(content, **settings)
    assert words in caught.value.message()


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The backend's module, without Triton."""
    monkeypatch.setitem(
        sys.modules, "triton_python_backend_utils", ModuleType("triton_python_backend_utils")
    )
    monkeypatch.setitem(sys.modules, "cores", cores)
    import serving.backends.onnxruntime.model as module

    monkeypatch.delitem(sys.modules, module.__name__)
    return module


@pytest.mark.parametrize(
    ("settings", "instances", "threads"),
    [
        ({}, 1, (8, 8)),
        ({}, 2, (4, 8)),
        ({}, 16, (1, 8)),
        ({"intra_op_thread_count": 3}, 2, (3, 3)),
        ({"intra_op_thread_count": 1, "threads_follow_load": 1}, 2, (4, 8)),
        ({"intra_op_thread_count": 1, "threads_follow_load": 0}, 2, (1, 1)),
    ],
)
def test_threads_follow_cores_and_instances(
    settings: dict[str, int],
    instances: int,
    threads: tuple[int, int],
    backend: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend, "usable_cores", lambda: 8)
    (tmp_path / "model.onnx").write_bytes(network("Neg", ["b", 1]))
    parameters = {name: {"string_value": str(value)} for name, value in settings.items()}
    config = {"instance_group": [{"count": instances}], "parameters": parameters}
    session = backend.Session(tmp_path, config)
    both = (session.shared, session.alone)
    assert tuple(s.get_session_options().intra_op_num_threads for s in both) == threads
    session.running.file.close()


def test_alone_unless_another_process_runs_too(backend: ModuleType) -> None:
    program = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'rb'); "
        "fcntl.lockf(file, fcntl.LOCK_SH); print(1, flush=True); time.sleep(60)"
    )
    file = str(backend.__file__)
    running = backend.Running(Path(file))
    with running as alone:
        assert alone
    command = [sys.executable, "-c", program, file]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        with running as alone:
            assert not alone
        other.kill()
        other.wait()
        with running as alone:
            assert alone
    running.file.close()


def test_networks_fit_the_onnx_rules() -> None:
    onnx.checker.check_model(network("Neg", ["b", 2]))
