"""What dies is replaced, what is merely slow is left in peace, what is in flight is finished."""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tritonclient.utils import InferenceServerException

from serving import shared_memory, supervisor
from serving.process import Stub
from serving.server import EmbeddedServer, ServerSettings, ServingError

# Triton's check of complete configurations is tested elsewhere; without it starts are quicker.
QUICK = ("--disable-auto-complete-config",)
MODELS = ("preprocess", "ssd", "postprocess")


class Watched:
    """A server and the lines it reported."""

    def __init__(self, repository: Path, **settings: object) -> None:
        self.lines: list[str] = []
        chosen = ServerSettings(repository, arguments=QUICK, **settings)  # type: ignore[arg-type]
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


def wait_until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    """Fail if the condition does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


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


def test_slow_server_is_not_taken_for_dead(hold: Hold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PROBE_TIMEOUT", 1.0)
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


def test_server_that_dies_again_and_again_ends_with_a_sentence(
    project_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "RESTARTS", 0)
    own = Watched(project_repository)
    with own.server as server:
        os.kill(server.process.pid, signal.SIGKILL)
        wait_until(lambda: server.has_ended)
    assert isinstance(server.failure, ServingError)
    assert re.match(r"tritonserver was ended by signal 9; after 0 new starts", str(server.failure))
    assert list(shared_memory.FOLDER.glob(f"{server._region.prefix}*")) == []


def test_requests_in_flight_complete_and_later_ones_are_refused(hold: Hold) -> None:
    own = Watched(hold.repository)
    results: list[str] = []
    with own.server as server:
        hold.close()
        flying = [threading.Thread(target=lambda: results.append(own.infer())) for _ in range(12)]
        for thread in flying:
            thread.start()
        time.sleep(1)
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
    assert time.monotonic() - began < 5
    assert own.lines == []


def test_drain_is_bounded(hold: Hold) -> None:
    own = Watched(hold.repository, drain_seconds=0.5)
    results: list[str] = []
    with own.server as server:
        hold.close()  # for good
        flying = threading.Thread(target=lambda: results.append(own.infer()))
        flying.start()
        time.sleep(1)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 15
    flying.join(20)
    assert results
    assert results != ["OK"]
    assert own.lines == ["requests still in flight were given up"]
    assert list(shared_memory.FOLDER.glob(f"{server._region.prefix}*")) == []


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "was ended by signal 9"), (1, "ended with exit code 1")]
)
def test_exit_codes_in_words(code: int, words: str) -> None:
    assert supervisor.describe_exit(code) == words
