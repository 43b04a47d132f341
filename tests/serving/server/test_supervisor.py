"""What dies is replaced, what is merely slow is left in peace, what is in flight is finished."""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException

from serving.lines import Line
from serving.server import probe, shared_memory, supervisor, vigil
from serving.server.process import Stub
from serving.server.server import EmbeddedServer, ServerSettings
from tests.collector import collecting
from tests.conftest import wait_until

MODELS = ("preprocess", "ssd", "postprocess")


class Watched:
    """A server and the lines it reported."""

    def __init__(self, repository: Path, **settings: object) -> None:
        self.lines: list[str] = []
        chosen = ServerSettings(repository, **settings)  # type: ignore[arg-type]
        self.server = EmbeddedServer(chosen, self.lines.append)

    def stub(self, model: str) -> Stub:
        """A living stub of the model."""
        return next(s for s in self.server.process.stubs() if s.model(MODELS) == model)

    def infer(self) -> str:
        """The status of one inference, OK if it succeeded."""
        try:
            with self.server.control() as control:
                control.infer("ensemble", 20)
        except InferenceServerException as error:
            return str(error.status())
        return "OK"


HOLD = """

def _held(self, requests, _execute=TritonPythonModel.execute):
    import os, time
    while os.path.exists({path!r}):
        time.sleep(0.05)
    return _execute(self, requests)

TritonPythonModel.execute = _held
"""


class Hold:
    """Lets no request through the last step of the ensemble between `close` and `open`."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self._file = repository.parent / "hold"
        with (repository / "postprocess" / "1" / "model.py").open("a") as model:
            model.write(HOLD.format(path=str(self._file)))
        self.close, self.open = self._file.touch, self._file.unlink


@pytest.fixture
def hold(repository: Path) -> Hold:
    """A copy of the repository whose last step can be held."""
    return Hold(repository)


@pytest.fixture(scope="module")
def watched(project_repository: Path) -> Iterator[Watched]:
    """A server of this module's own, to be killed in parts."""
    own = Watched(project_repository, probe_seconds=1.0)
    with own.server:
        yield own


@pytest.mark.parametrize("model", MODELS)
def test_killed_stub_is_replaced(model: str, watched: Watched) -> None:
    stub = watched.stub(model)
    watched.lines.clear()
    os.kill(stub.pid, signal.SIGKILL)
    wait_until(lambda: any("works again after" in line for line in watched.lines))
    assert watched.lines[0] == f"a process of model {model} died: loading it again"
    assert watched.infer() == "OK"
    assert watched.stub(model).pid != stub.pid
    wait_until(lambda: not (shared_memory.FOLDER / stub.region).exists())


def test_the_trace_of_a_line_is_found(tiny_repository: Path, tmp_path: Path) -> None:
    """What mended a model was proved by an inference, whose steps a collector has received."""
    with collecting(tmp_path) as collector:
        own = Watched(tiny_repository, otlp_endpoint=collector.url)
        with own.server:
            os.kill(own.stub("ssd").pid, signal.SIGKILL)
            wait_until(lambda: any("works again after" in line for line in own.lines))
            (line,) = (Line(line) for line in own.lines if "works again after" in line)
            spans = collector.wait_for(line.facts["trace"], 4)
    assert {"ensemble", *MODELS} <= {span.attributes.get("triton.model_name") for span in spans}


def test_killed_server_is_started_again(watched: Watched) -> None:
    watched.lines.clear()
    os.kill(watched.server.process.pid, signal.SIGKILL)
    wait_until(lambda: any(line.startswith("serving again") for line in watched.lines))
    assert watched.lines[0] == "tritonserver was ended by signal 9: starting it again"
    assert watched.infer() == "OK"
    prefix = watched.server._region.prefix
    regions = {path.name for path in shared_memory.FOLDER.glob(f"{prefix}*")}
    stubs = {stub.region for stub in watched.server.process.stubs()}
    assert regions == {f"{prefix}lock", *stubs}


@pytest.mark.parametrize("model", MODELS)
def test_stopped_stub_is_replaced(
    model: str, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FROZEN_SECONDS", 1.0)
    stub = watched.stub(model)
    watched.lines.clear()
    os.kill(stub.pid, signal.SIGSTOP)
    wait_until(lambda: any("works again after" in line for line in watched.lines))
    assert any(f"(process {stub.pid}) is stopped: ending it" in line for line in watched.lines)
    assert watched.infer() == "OK"
    assert not stub.is_alive()


def test_stopped_server_is_started_again(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FROZEN_SECONDS", 1.0)
    pid = watched.server.process.pid
    watched.lines.clear()
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: any(line.startswith("serving again") for line in watched.lines), 60)
    assert f"tritonserver (process {pid}) is stopped: ending it" in watched.lines
    assert watched.infer() == "OK"


HANG = """

def _hung(self, requests, _execute=TritonPythonModel.execute):
    import os, time
    while os.path.exists({path!r}):
        {way}
    return _execute(self, requests)

TritonPythonModel.execute = _hung
"""


@pytest.mark.parametrize("model", ["preprocess", "postprocess"])
@pytest.mark.parametrize("way", ["time.sleep(600)", "pass"], ids=["waits", "loops"])
def test_stub_that_hangs_is_replaced(
    model: str, way: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "PROBE_TIMEOUT", 1.0)
    monkeypatch.setattr(vigil, "PATIENCE", 4.0)
    monkeypatch.setattr(vigil, "COSTLY", 1.5)
    flag = repository.parent / "hang"
    with (repository / model / "1" / "model.py").open("a") as file:
        file.write(HANG.format(path=str(flag), way=way))
    own = Watched(repository, probe_seconds=0.5)
    with own.server:
        stub = own.stub(model)
        flag.touch()
        wait_until(lambda: any("has answered nothing" in line for line in own.lines))
        flag.unlink()
        wait_until(lambda: any("works again after" in line for line in own.lines), 60)
        assert own.infer() == "OK"
        assert own.stub(model) != stub
    assert [line for line in own.lines if "has answered nothing" in line] == [
        f"model {model} has answered nothing for 4 s: ending it"
    ]


def test_server_far_beyond_saturation_is_left_in_peace(
    project_repository: Path, smear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most probes get no answer in time, for several times as long as a hanging model is given."""
    monkeypatch.setattr(probe, "PROBE_TIMEOUT", 0.3)
    monkeypatch.setattr(vigil, "PATIENCE", 3.0)
    own = Watched(project_repository, probe_seconds=0.1)
    with own.server as server:
        processes = {server.process.pid, *(stub.pid for stub in server.process.stubs())}
        with overload(server.grpc_url, smear.read_bytes()) as answered:
            wait_until(lambda: any("no answer within" in line for line in own.lines))
            time.sleep(4 * vigil.PATIENCE)
        assert answered() > 100
        now = {server.process.pid, *(stub.pid for stub in server.process.stubs())}
        wait_until(lambda: own.infer() == "OK")
    assert now == processes
    assert {line.split(":")[0] for line in own.lines} <= {
        "inference through ensemble fails",
        "inference through ensemble works again",
    }


@contextmanager
def overload(url: str, photo: bytes, at_once: int = 80) -> Iterator[Callable[[], int]]:
    """So many requests wait at any moment, a part of them of impatient clients. Counts answers."""
    image = grpc_client.InferInput("image", [1, 1], "BYTES")
    image.set_data_from_numpy(np.array([[photo]], dtype=object))
    over, answers = threading.Event(), list[bool]()

    def ask(number: int) -> None:
        patience = None if number % 4 else 1.0

        def again(result: object, error: object) -> None:
            answers.append(error is None)
            if not over.is_set():
                client.async_infer("ensemble", [image], again, client_timeout=patience)

        again(None, "")

    client = grpc_client.InferenceServerClient(url)
    for number in range(at_once):
        ask(number)
    try:
        yield lambda: sum(answers)
    finally:
        over.set()
        time.sleep(1)
        client.close()


def test_slow_server_is_not_taken_for_dead(hold: Hold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_TIMEOUT", 1.0)
    own = Watched(hold.repository, probe_seconds=0.5)
    with own.server:
        stub = own.stub("postprocess")
        hold.close()
        wait_until(lambda: bool(own.lines))
        time.sleep(2)
        hold.open()
        wait_until(lambda: "inference through ensemble works again" in own.lines)
        assert own.stub("postprocess") == stub
    assert own.lines == [
        "inference through ensemble fails: no answer within 1 s",
        "inference through ensemble works again",
    ]


def test_unloaded_model_is_left_unloaded(watched: Watched) -> None:
    watched.lines.clear()
    with watched.server.control() as control:
        control.unload("ssd")
        wait_until(lambda: any("any ensemble fails: none" in line for line in watched.lines))
        time.sleep(1.5)
        assert "ssd" not in control.models("READY")
        control.load("ssd")
    wait_until(lambda: "inference through any ensemble works again" in watched.lines)


def copy_ensemble(repository: Path, name: str, ssd: int) -> None:
    """An ensemble like the shipped one, with another name, over one version of the network."""
    text = (repository / "ensemble" / "config.pbtxt").read_text()
    text = text.replace('name: "ensemble"', f'name: "{name}"')
    (repository / name / "1").mkdir(parents=True, exist_ok=True)
    (repository / name / "1" / ".keep").touch()
    replace_pin(repository / name, text, ssd)


def replace_pin(model: Path, text: str, ssd: int) -> None:
    pinned = re.sub(r'("ssd"\s+model_version:) -?\d+', rf"\1 {ssd}", text)
    (model / ".new").write_text(pinned)
    (model / ".new").replace(model / "config.pbtxt")


def replace_policy(repository: Path, policy: str) -> None:
    path = repository / "ssd" / "config.pbtxt"
    text = re.sub(r"version_policy \{.*\}", f"version_policy {{ {policy} }}", path.read_text())
    (path.parent / ".new").write_text(text)
    (path.parent / ".new").replace(path)


def test_every_ensemble_is_probed_and_a_canary_may_go(repository: Path) -> None:
    copy_ensemble(repository, "potholes", -1)
    own = Watched(repository, probe_seconds=0.2)
    with own.server as server, server.control() as control:
        assert server.photo_models == ["ensemble", "potholes"]
        copy_ensemble(repository, "ensemble_canary", 1)
        control.load("ensemble_canary")
        wait_until(lambda: "ensemble_canary" in server.photo_models)
        control.unload("ensemble_canary")
        wait_until(lambda: "ensemble_canary" not in server.photo_models)
    assert own.lines == []


def test_a_canary_promoted_by_files_alone_fails_no_request(
    repository: Path, make_artifact: Callable[..., Path]
) -> None:
    """Everything changes at once: what the ensembles pin, what ssd serves, which ensembles are."""
    own = Watched(repository, probe_seconds=0.2, watch=True)
    statuses: list[str] = []
    finished = threading.Event()
    text = (repository / "ensemble" / "config.pbtxt").read_text()

    def keep_asking() -> None:
        while not finished.is_set():
            statuses.append(own.infer())

    with own.server:
        threads = [threading.Thread(target=keep_asking) for _ in range(3)]
        for thread in threads:
            thread.start()
        (repository / "ssd" / "2").mkdir()
        shutil.copy(make_artifact() / "model.onnx", repository / "ssd" / "2")
        replace_policy(repository, "specific { versions: [1, 2] }")
        replace_pin(repository / "ensemble", text, 1)
        copy_ensemble(repository, "ensemble_canary", 2)
        wait_until(lambda: "loaded ssd anew" in own.lines)
        own.lines.clear()
        replace_policy(repository, "latest { num_versions: 1 }")
        replace_pin(repository / "ensemble", text, -1)
        shutil.rmtree(repository / "ensemble_canary")
        wait_until(lambda: "loaded ssd anew" in own.lines)
        assert own.lines[:2] == ["unloaded ensemble_canary", "loaded ensemble anew"]
        replace_policy(repository, "specific { versions: [1] }")
        wait_until(lambda: own.lines.count("loaded ssd anew") == 2)
        (repository / "ssd" / "3").mkdir()
        shutil.copy(make_artifact() / "model.onnx", repository / "ssd" / "3")
        wait_until(lambda: "promote 3` serves it" in own.lines[-1])
        finished.set()
        for thread in threads:
            thread.join()
        assert not any("died" in line for line in own.lines)
    assert len(statuses) > 100
    assert set(statuses) == {"OK"}


def test_server_that_dies_again_and_again_is_started_after_longer_pauses(
    project_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Watched(project_repository)
    with own.server as server:
        for _ in range(3):
            served = count(own, "serving again")
            os.kill(server.process.pid, signal.SIGSEGV)
            wait_until(partial(has_more, own, served))
        assert own.infer() == "OK"
        told = [line for line in own.lines if "starting it again" in line]
        pauses = [re.sub(r".*starting it again|\d+", "", line) for line in told]
        assert pauses == ["", " in  s", " in  s"]
        assert told[0].startswith("tritonserver was ended by signal 11, its last words: ")
        monkeypatch.setattr(server._supervisor._pauses, "pause", lambda: 600.0)
        os.kill(server.process.pid, signal.SIGKILL)
        wait_until(lambda: "signal 9: starting it again in 600 s" in own.lines[-1])
        began = time.monotonic()
    assert time.monotonic() - began < 300  # the pause ends at once
    assert server.failure is None
    assert list(shared_memory.FOLDER.glob(f"{server._region.prefix}*")) == []


def has_more(watched: Watched, served: int) -> bool:
    """Whether it serves again, once more."""
    return count(watched, "serving again") > served


def count(watched: Watched, start: str) -> int:
    """How many lines begin so."""
    return sum(line.startswith(start) for line in watched.lines)


def test_server_that_a_signal_ends_as_it_starts_is_started_once_more(
    project_repository: Path,
) -> None:
    own = Watched(project_repository)
    own.server.launch()
    try:
        wait_until(lambda: own.server._supervisor._server is not None)
        os.kill(own.server.process.pid, signal.SIGABRT)
        wait_until(lambda: own.server.is_ready or own.server.has_ended)
        assert own.server.failure is None
        assert own.infer() == "OK"
        assert count(own, "tritonserver was ended by signal 6 as it started") == 1
    finally:
        own.server.stop()


def test_server_that_does_not_start_again_is_tried_until_it_does(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE", 1.0)
    own = Watched(repository)
    model = repository / "preprocess" / "1" / "model.py"
    whole = model.read_text()
    with own.server as server:
        model.write_text("import no_such_module\n")
        os.kill(server.process.pid, signal.SIGKILL)
        told = "tritonserver did not start: model preprocess: "
        wait_until(lambda: count(own, told) > 1)
        assert any("No module named 'no_such_module'" in line for line in own.lines)
        model.write_text(whole)
        wait_until(lambda: count(own, "serving again") == 1)
        assert own.infer() == "OK"
    assert server.failure is None


def test_requests_in_flight_complete_and_later_ones_are_refused(hold: Hold) -> None:
    own = Watched(hold.repository, probe_seconds=600.0)
    results: list[str] = []
    with own.server as server:
        hold.close()
        before = first_steps(own)
        flying = [threading.Thread(target=lambda: results.append(own.infer())) for _ in range(12)]
        for thread in flying:
            thread.start()
        wait_until(lambda: first_steps(own) == before + 12)
        server.request_stop()
        with server.control() as control:
            wait_until(lambda: control.models("UNLOADING") == ["ensemble"])
        assert own.infer().endswith("NOT_FOUND")
        assert results == []
        hold.open()
        for thread in flying:
            thread.join(20)
        wait_until(lambda: server.has_ended)
    assert results == ["OK"] * 12
    began = time.monotonic()
    assert own.infer().endswith("UNAVAILABLE")
    assert time.monotonic() - began < 15  # a client waits for 20
    assert own.lines == []


def first_steps(own: Watched) -> int:
    """How many requests have gone through the first step of the ensemble."""
    with own.server.control() as control:
        return control.finished("preprocess", "")


def test_drain_is_bounded(hold: Hold) -> None:
    own = Watched(hold.repository, drain_seconds=0.5, probe_seconds=600.0)
    results: list[str] = []
    with own.server as server:
        hold.close()  # for good
        before = first_steps(own)
        flying = threading.Thread(target=lambda: results.append(own.infer()))
        flying.start()
        wait_until(lambda: first_steps(own) == before + 1)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < server.settings.drain_seconds + 29  # 30 s by default
    flying.join(20)
    assert results
    assert results != ["OK"]
    assert own.lines == ["requests still in flight were given up"]
    assert list(shared_memory.FOLDER.glob(f"{server._region.prefix}*")) == []
