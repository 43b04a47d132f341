import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from tritonclient.grpc import InferenceServerClient, model_config_pb2

from client import (
    DeadlineExceeded,
    Detector,
    InvalidImage,
    InvalidParameter,
    Result,
    ServerError,
    ServerUnavailable,
    canary,
)
from client.canary import Canary
from client.runtime import Threads, finish
from serving.server.server import EmbeddedServer, ServerSettings
from tests.client.conftest import Service, Tensors, answer_tensors
from tests.conftest import PROJECT, wait_until
from tests.serving.tiny_network import network

PAGE = PROJECT / "docs" / "client.md"
STABLE, CANARY = "ensemble", "ensemble_canary"
ALL = {"canary_version": "7", "canary_share": "1"}
GONE = "Request for unknown model: 'ensemble_canary' has no available versions"

keys = st.text()
shares = st.floats(0, 1)


def at(share: float, version: str = "7") -> Canary:
    return Canary(STABLE, version, share)


# The assignment.


@given(keys)
def test_a_share_of_0_takes_none_and_of_1_all(key: str) -> None:
    assert not at(0).takes(key)
    assert at(1).takes(key)


@given(keys, shares, shares)
def test_a_larger_share_only_adds_keys(key: str, one: float, other: float) -> None:
    smaller, larger = sorted((one, other))
    assert at(larger).takes(key) or not at(smaller).takes(key)


@given(keys, shares)
def test_a_key_keeps_its_side(key: str, share: float) -> None:
    assert at(share).takes(key) == at(share).takes(key)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_share_is_that_of_the_keys(share: float) -> None:
    taken = sum(at(share).takes(f"camera {number}") for number in range(10_000))
    assert taken == pytest.approx(10_000 * share, abs=4 * (10_000 * share * (1 - share)) ** 0.5)


def test_another_version_or_model_draws_anew() -> None:
    names = [f"camera {number}" for number in range(1000)]
    for other in (at(0.5, "8"), Canary("potholes", "7", 0.5)):
        both = sum(at(0.5).takes(name) and other.takes(name) for name in names)
        assert 190 < both < 310


def test_the_numbers_are_those_of_the_formula() -> None:
    # printf 'ensemble:7:camera 7' | sha256sum | cut -c1-16
    assert canary.position("ensemble", "7", "camera 7") == 0xE0B807E00D675F20
    assert canary.position("ensemble", "7", "K\u00fcche") == 0x8671FABEFA7DA44B
    assert f"u = {canary.position('ensemble', '7', 'camera 7') / 2**64:.4f}" in PAGE.read_text()


def test_a_file_name_of_any_bytes_is_a_key() -> None:
    assert at(1).takes("caf\udce9.jpg")


# The configuration.


def test_version_and_share_are_read() -> None:
    found = canary.read("ensemble", {"canary_version": "7", "canary_share": "0.1"})
    assert found == Canary("ensemble", "7", 0.1)


@pytest.mark.parametrize(
    "changes",
    [{"canary_share": share} for share in ("", "abc", "2.0", "-0.1", "nan", "inf", "10%")]
    + [{"canary_version": version} for version in ("", "0", "-1", "seven", "7.0")],
)
def test_parameters_that_make_no_sense_are_no_canary(changes: dict[str, str]) -> None:
    assert canary.read("ensemble", {**ALL, **changes}) is None


def test_missing_parameters_are_no_canary() -> None:
    assert canary.read("ensemble", {}) is None


# The knowledge.


class Answers:
    """Tells of a canary whose share is the number of times it was asked, in hundredths."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.times = 0
        self.seconds: list[float] = []
        self._gate = gate

    def __call__(self, seconds: float) -> Canary | None:
        self.times += 1
        self.seconds.append(seconds)
        share = self.times / 100
        if self._gate:
            self._gate.wait(10)
        return at(share)


class Knowledge:
    """The same for threads."""

    def __init__(self, ask: Callable[[float], Canary | None]) -> None:
        async def asked(seconds: float) -> Canary | None:
            return ask(seconds)

        self._knowledge = canary.Knowledge(asked, Threads().lock())
        self.doubt = self._knowledge.doubt

    def get(self, seconds: float) -> Canary | None:
        return finish(self._knowledge.get(seconds))


def test_it_is_asked_once_while_the_knowledge_is_fresh() -> None:
    answers = Answers()
    knowledge = Knowledge(answers)
    assert {knowledge.get(10) for _ in range(100)} == {at(0.01)}
    assert answers.times == 1


def test_that_there_is_none_is_knowledge_too() -> None:
    asked: list[float] = []
    knowledge = Knowledge(asked.append)  # returns None
    assert [knowledge.get(10) for _ in range(100)] == [None] * 100
    assert len(asked) == 1


def test_it_is_asked_again_after_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "CANARY_SECONDS", 0.1)
    knowledge = Knowledge(Answers())
    assert knowledge.get(10) == knowledge.get(10) == at(0.01)
    time.sleep(0.11)
    assert knowledge.get(10) == at(0.02)


def test_a_doubt_makes_it_ask_again() -> None:
    knowledge = Knowledge(Answers())
    assert knowledge.get(10) == at(0.01)
    knowledge.doubt()
    assert knowledge.get(10) == knowledge.get(10) == at(0.02)


def test_asking_takes_a_second_at_most_and_never_more_than_there_is() -> None:
    answers = Answers()
    knowledge = Knowledge(answers)
    knowledge.get(30)
    knowledge.doubt()
    knowledge.get(0.25)
    assert answers.seconds == [canary.ASK_SECONDS, 0.25]


def test_the_first_time_all_wait_for_the_one_who_asks() -> None:
    gate = threading.Event()
    answers = Answers(gate)
    knowledge = Knowledge(answers)
    with ThreadPoolExecutor(16) as pool:
        known = [pool.submit(knowledge.get, 10) for _ in range(16)]
        time.sleep(0.1)
        assert not any(future.done() for future in known)
        gate.set()
    assert {future.result() for future in known} == {at(0.01)}
    assert answers.times == 1


def test_the_first_time_none_waits_longer_than_there_is() -> None:
    gate = threading.Event()
    knowledge = Knowledge(Answers(gate))
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(knowledge.get, 10)
        time.sleep(0.05)
        assert pool.submit(knowledge.get, 0.05).result(5) is None
        gate.set()
    assert slow.result() == at(0.01)


def test_later_the_others_go_on_with_what_they_know() -> None:
    gate = threading.Event()
    gate.set()
    answers = Answers(gate)
    knowledge = Knowledge(answers)
    knowledge.get(10)
    gate.clear()
    knowledge.doubt()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(knowledge.get, 10)
        wait_until(lambda: answers.times == 2)
        assert {knowledge.get(10) for _ in range(100)} == {at(0.01)}
        gate.set()
        assert asking.result() == at(0.02)
    assert answers.times == 2


def test_a_failure_to_ask_leaves_it_askable() -> None:
    def fails(_: float) -> Canary | None:
        raise ValueError("Cannot invoke RPC on closed channel!")

    knowledge = Knowledge(fails)
    for _ in range(2):
        with pytest.raises(ValueError, match="closed channel"):
            knowledge.get(1)


# The detector, before a server that says what a test wants.


@pytest.fixture
def detector(service: Service) -> Iterator[Detector]:
    with Detector(service.url, timeout=10) as detector:
        yield detector


def asked_models(service: Service) -> list[str]:
    return [request.model_name for request in service.requests]


def refuse_canary(service: Service, status: grpc.StatusCode, details: str) -> None:
    """Fail the canary's requests; the stable model answers."""

    def answer(request: Any, context: grpc.ServicerContext) -> Tensors:
        if request.model_name == CANARY:
            context.abort(status, details)
        return answer_tensors()

    service.answer = answer


def test_without_a_key_nobody_asks_for_a_canary(service: Service, detector: Detector) -> None:
    service.canary = ALL
    assert detector.detect(b"image").model == STABLE
    assert [result.model for result in detector.detect_many([b"a", b"b"])] == [STABLE] * 2
    assert service.asked == 0


def test_a_key_takes_part(service: Service, detector: Detector) -> None:
    service.canary = ALL
    assert detector.detect(b"image", canary_key="user 42").model == CANARY
    assert asked_models(service) == [CANARY]


def test_the_detectors_key_holds_unless_a_request_has_its_own(service: Service) -> None:
    service.canary = {**ALL, "canary_share": "0.5"}
    inside, outside = sides(at(0.5))
    with Detector(service.url, canary_key=inside) as detector:
        assert detector.detect(b"image").model == CANARY
        assert detector.detect(b"image", canary_key=outside).model == STABLE
        assert detector.detect(b"image", canary_key="").model == STABLE
        assert [result.model for result in detector.detect_many([b"image"])] == [CANARY]


def sides(of: Canary) -> tuple[str, str]:
    """Return a key that the canary takes and one that it does not."""
    names = [f"user {number}" for number in range(100)]
    return next(filter(of.takes, names)), next(name for name in names if not of.takes(name))


def test_many_have_one_key_or_one_each(service: Service, detector: Detector) -> None:
    service.canary = {**ALL, "canary_share": "0.5"}
    inside, outside = sides(at(0.5))
    one = detector.detect_many([b"a", b"b", b"c"], canary_key=inside)
    assert [result.model for result in one] == [CANARY] * 3
    names = {b"a": outside, b"b": inside, b"c": ""}
    each = detector.detect_many(list(names), canary_key=lambda image: names[image])
    assert [result.model for result in each] == [STABLE, CANARY, STABLE]
    assert service.asked == 1


def test_no_canary_is_the_stable_model_and_is_asked_for_once(
    service: Service, detector: Detector
) -> None:
    results = detector.detect_many([b"image"] * 50, canary_key="user 42")
    assert {result.model for result in results} == {STABLE}
    assert service.asked == 1


@pytest.mark.parametrize("share", ["abc", "2.0"])
def test_a_malformed_canary_is_none(service: Service, detector: Detector, share: str) -> None:
    service.canary = {**ALL, "canary_share": share}
    assert detector.detect(b"image", canary_key="user 42").model == STABLE


def test_a_server_that_is_slow_to_tell_has_no_canary(
    service: Service, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "ASK_SECONDS", 0.05)
    service.canary = ALL
    service.ask_seconds = 0.2
    assert detector.detect(b"image", canary_key="user 42").model == STABLE


@pytest.mark.parametrize(
    ("status", "details"),
    [
        (grpc.StatusCode.NOT_FOUND, GONE),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'ensemble_canary' is not found"),
        (grpc.StatusCode.UNAVAILABLE, "ensemble_canary is unloaded"),
        (grpc.StatusCode.INTERNAL, "Stub process is not healthy."),
        (grpc.StatusCode.UNKNOWN, "no reason"),
        (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape for input 'images'"),
    ],
)
def test_a_canary_that_fails_is_answered_for_and_told_in_the_log(
    service: Service,
    detector: Detector,
    caplog: pytest.LogCaptureFixture,
    status: grpc.StatusCode,
    details: str,
) -> None:
    service.canary = ALL
    refuse_canary(service, status, details)
    with caplog.at_level(logging.WARNING, "client"):
        assert detector.detect(b"image", canary_key="user 42").model == STABLE
    assert asked_models(service) == [CANARY, STABLE]
    (record,) = caplog.records
    assert record.getMessage().startswith("ensemble_canary failed, ensemble answers instead: ")
    assert details in record.getMessage()


def test_an_answer_of_other_tensors_is_a_failure_too(service: Service, detector: Detector) -> None:
    service.canary = ALL
    service.answer = lambda request, _: {} if request.model_name == CANARY else answer_tensors()
    assert detector.detect(b"image", canary_key="user 42").model == STABLE


def test_a_failing_canary_goes_on_to_be_tried(service: Service, detector: Detector) -> None:
    service.canary = ALL
    refuse_canary(service, grpc.StatusCode.INTERNAL, "Stub process is not healthy.")
    for _ in range(3):
        detector.detect(b"image", canary_key="user 42")
    assert asked_models(service) == [CANARY, STABLE] * 3


def test_a_canary_that_is_gone_is_not_tried_again(service: Service, detector: Detector) -> None:
    service.canary = ALL
    detector.detect(b"image", canary_key="user 42")
    service.canary = None
    refuse_canary(service, grpc.StatusCode.NOT_FOUND, GONE)
    for _ in range(3):
        assert detector.detect(b"image", canary_key="user 42").model == STABLE
    assert asked_models(service) == [CANARY, CANARY, STABLE, STABLE, STABLE]
    assert service.asked == 2


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ("image 0: not an image", InvalidImage),
        ("score_threshold must be 0 to 1, but is 7", InvalidParameter),
    ],
)
def test_what_is_wrong_with_the_request_is_told_and_not_tried_again(
    service: Service, detector: Detector, details: str, expected: type[Exception]
) -> None:
    service.canary = ALL
    refuse_canary(service, grpc.StatusCode.INVALID_ARGUMENT, details)
    with pytest.raises(expected):
        detector.detect(b"image", canary_key="user 42")
    assert asked_models(service) == [CANARY]


def test_both_sides_share_one_timeout(service: Service) -> None:
    service.canary = ALL

    def answer(request: Any, context: grpc.ServicerContext) -> Tensors:
        if request.model_name == CANARY:
            time.sleep(0.3)
            context.abort(grpc.StatusCode.INTERNAL, "failed slowly")
        time.sleep(5)
        return answer_tensors()

    service.answer = answer
    begin = time.monotonic()
    with (
        Detector(service.url, timeout=1, canary_key="user 42") as detector,
        pytest.raises(DeadlineExceeded, match="within 1 s"),
    ):
        detector.detect(b"image")
    assert 1 <= time.monotonic() - begin < 2
    assert asked_models(service) == [CANARY, STABLE]


def test_a_canary_that_is_too_slow_uses_up_the_timeout(service: Service) -> None:
    service.canary = ALL
    service.answer = lambda *_: time.sleep(1) or answer_tensors()  # type: ignore[func-returns-value]
    with (
        Detector(service.url, timeout=0.5, canary_key="user 42") as detector,
        pytest.raises(DeadlineExceeded),
    ):
        detector.detect(b"image")
    assert asked_models(service) == [CANARY]


def test_if_both_fail_the_stable_models_error_is_raised(
    service: Service, detector: Detector
) -> None:
    service.canary = ALL
    service.refuse(grpc.StatusCode.UNAVAILABLE, "Server is stopping")
    with pytest.raises(ServerUnavailable, match="Server is stopping"):
        detector.detect(b"image", canary_key="user 42")
    assert asked_models(service) == [CANARY, *[STABLE] * 4]  # the stable one is tried again


def test_closing_asks_nobody_else(service: Service) -> None:
    service.canary = ALL
    service.answer = lambda *_: time.sleep(1) or answer_tensors()  # type: ignore[func-returns-value]
    detector = Detector(service.url, canary_key="user 42")
    threading.Timer(0.2, detector.close).start()
    with pytest.raises(ServerError, match="was cancelled"):
        detector.detect(b"image")
    assert asked_models(service) == [CANARY]


# The real server: version 1 is stable, version 2 the canary, version 3 a canary that fails.

SCORES = {STABLE: 0.6, CANARY: 0.8}
NAMES = [f"camera {number}" for number in range(60)]


class Trial:
    """A server whose canary can be set and unloaded."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.url = server.grpc_url
        self._repository = Path(server.settings.repository)
        self._control = server.control

    def set(self, share: float, version: int = 2) -> Canary:
        """Start a canary, or change its share."""
        config = pinned(self._repository / STABLE, version)
        config.name = CANARY
        config.parameters["canary_share"].string_value = str(share)
        config.parameters["canary_version"].string_value = str(version)
        write(config, self._repository / CANARY)
        with self._control() as control:
            control.load(CANARY)
        return at(share, str(version))

    def end(self) -> None:
        """Unload the canary."""
        with self._control() as control:
            control.unload(CANARY)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server of its own over three versions, ensemble pinned to 1."""
    repository = tmp_path_factory.mktemp("canary") / "models"
    ignore = shutil.ignore_patterns("__pycache__", "releases.json")
    shutil.copytree(PROJECT / "model_repository", repository, ignore=ignore)
    for version, score in enumerate((*SCORES.values(), 0.9), 1):
        (repository / "ssd" / str(version)).mkdir(exist_ok=True)
        model = network(300, 400, 3, score=score)
        onnx.save(model if version < 3 else broken(model), repository / f"ssd/{version}/model.onnx")
    ssd = read(repository / "ssd")
    ssd.version_policy.specific.versions[:] = [1, 2, 3]
    write(ssd, repository / "ssd")
    write(pinned(repository / STABLE, 1), repository / STABLE)
    with EmbeddedServer(ServerSettings(repository)) as server:
        yield server


@pytest.fixture
def trial(served: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trial]:
    """The server without a canary at first; knowledge grows old at once."""
    monkeypatch.setattr(canary, "CANARY_SECONDS", 0.2)
    trial = Trial(served)
    yield trial
    trial.end()


def read(folder: Path) -> model_config_pb2.ModelConfig:
    text = (folder / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def write(config: model_config_pb2.ModelConfig, folder: Path) -> None:
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config))


def pinned(folder: Path, version: int) -> model_config_pb2.ModelConfig:
    """Return the ensemble's configuration with its network pinned to the version."""
    config = read(folder)
    (step,) = (step for step in config.ensemble_scheduling.step if step.model_name == "ssd")
    step.model_version = version
    return config


def broken(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make the network fail at each inference, though it loads."""
    (shape,) = (array for array in model.graph.initializer if array.name == "per_image")
    shape.CopyFrom(numpy_helper.from_array(np.array([-1, 400, 3], np.int64), shape.name))
    return model


def answered_by(result: Result) -> str:
    """Return the model that answered, by what it found; it must be the one that it says."""
    (found,) = result.detections
    assert found.score == pytest.approx(SCORES[result.model], abs=0.01)
    return result.model


def taken(detector: Detector, photo: Path) -> set[str]:
    """Return the names that the canary answers."""
    results = [(name, detector.detect(photo, canary_key=name)) for name in NAMES]
    return {name for name, result in results if answered_by(result) == CANARY}


def test_really_no_canary_is_the_stable_model(trial: Trial, smear: Path) -> None:
    with Detector(trial.url) as detector:
        assert taken(detector, smear) == set()


def test_really_a_larger_share_only_adds_keys(trial: Trial, smear: Path) -> None:
    with Detector(trial.url) as detector:
        found = []
        for share in (0, 0.2, 0.7, 1):
            expected = {name for name in NAMES if trial.set(share).takes(name)}
            time.sleep(0.25)
            found.append(taken(detector, smear))
            assert found[-1] == expected
        assert found[0] < found[1] < found[2] < found[3] == set(NAMES)


def test_really_no_request_fails_while_canaries_come_and_go(trial: Trial, smear: Path) -> None:
    share = trial.set(0.5)
    with Detector(trial.url) as detector, Load(detector, smear) as load:
        for _ in range(4):
            load.go_on(0.5)
            trial.end()
            load.go_on(0.5)
            trial.set(0.5)
    assert load.errors == []
    assert load.counts[STABLE] > 10
    assert load.counts[CANARY] > 10
    assert all(share.takes(name) for name in load.takers)


class Load:
    """Four threads that share a detector and send until the context ends."""

    def __init__(self, detector: Detector, photo: Path) -> None:
        self.errors: list[BaseException] = []
        self.counts: Counter[str] = Counter()
        self.takers: set[str] = set()
        self._end = threading.Event()
        self._detect = lambda name: detector.detect(photo, canary_key=name)
        self._threads = [threading.Thread(target=self._run, args=[n]) for n in range(4)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, seconds: float) -> None:
        """Wait while the threads send."""
        self._end.wait(seconds)

    def _run(self, number: int) -> None:
        while not self._end.is_set():
            name = NAMES[number := (number + 1) % len(NAMES)]
            try:
                model = answered_by(self._detect(name))
            except BaseException as error:
                self.errors.append(error)
                return
            self.counts[model] += 1
            if model == CANARY:
                self.takers.add(name)


def test_really_a_broken_canary_is_answered_for_and_counted(trial: Trial, smear: Path) -> None:
    trial.set(1, version=3)
    with Detector(trial.url, canary_key="user 42") as detector:
        assert [answered_by(detector.detect(smear)) for _ in range(5)] == [STABLE] * 5
    assert failures(trial.url) >= 5  # Triton counts an ensemble's failure twice


def failures(url: str) -> int:
    with InferenceServerClient(url) as client:
        (model,) = client.get_inference_statistics(CANARY).model_stats
    return int(model.inference_stats.fail.count)
