import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient

from client import Detector
from client.server_api import connect
from client.service import Ensemble, Service, Settings, Step, describe, labels, step_times, totals
from serving.server.server import EmbeddedServer
from tests.client.conftest import serve
from tests.client.telling import Telling

STEPS = (Step("preprocess", "1"), Step("ssd", "2"), Step("postprocess", "1"))
SETTINGS = Settings(
    images=8,
    pixels=64_000_000,
    detections=100,
    classes=3,
    input_size=(300, 300),
    score_threshold=0.5,
    iou_threshold=0.45,
)


@pytest.fixture(scope="module")
def real(server: EmbeddedServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.grpc_url) as client:
        yield client


@pytest.fixture
def telling() -> Iterator[Telling]:
    service = Telling()
    running = serve(service)
    yield service
    running.stop(None).wait()


@pytest.fixture
def client(telling: Telling) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(telling.url) as client:
        yield client


def test_a_real_server_tells_all(real: InferenceServerClient) -> None:
    service = describe(real)
    assert service == Service(
        server="triton",
        version=service.version,
        ready=True,
        ensemble=Ensemble("ensemble", ready=True, steps=STEPS),
        canary=None,
        settings=SETTINGS,
        reached=True,
    )
    assert str(service.version).startswith("2.")


def test_the_real_labels(server: EmbeddedServer) -> None:
    with Detector(server.grpc_url) as detector:
        assert labels(detector) == {0: "RBC", 1: "WBC", 2: "Platelets"}


def test_the_times_of_one_real_request(
    server: EmbeddedServer, real: InferenceServerClient, smear: Path
) -> None:
    before = totals(real)
    with Detector(server.grpc_url) as detector:
        result = detector.detect(smear)
    times = step_times(real, before, describe(real).answered(result.model))
    assert [(step.model, step.version) for step in times] == [
        (step.model, step.version) for step in STEPS
    ]
    for step in times:
        assert step.requests >= 1  # the server's own probes count as well
        assert 0 < step.infer_ms < step.total_ms


def test_a_model_that_is_no_ensemble(real: InferenceServerClient) -> None:
    assert describe(real, "ssd").ensemble == Ensemble("ssd", ready=True, steps=())


def test_a_model_that_is_not_there(real: InferenceServerClient) -> None:
    service = describe(real, "potholes")
    assert (service.ensemble, service.settings, service.reached) == (None, Settings(), True)
    assert len(service.untold) == 1
    assert service.untold[0].startswith("model config potholes: Request for unknown model")


def test_of_several_ready_versions_the_newest_answers(
    telling: Telling, client: InferenceServerClient
) -> None:
    telling.versions = ["9", "10"]
    assert describe(client).answered("ensemble")[1] == Step("ssd", "10")


def test_no_ready_version_is_none(telling: Telling, client: InferenceServerClient) -> None:
    telling.versions = []
    assert describe(client).answered("ensemble")[1] == Step("ssd", None)


def test_a_canary_has_its_own_version_and_share(
    telling: Telling, client: InferenceServerClient
) -> None:
    telling.canary = {"canary_version": "7", "canary_share": "0.1"}
    telling.versions = ["2", "7"]
    service = describe(client)
    assert service.canary is not None
    assert (service.canary.name, service.canary.share) == ("ensemble_canary", 0.1)
    assert service.answered("ensemble_canary")[1] == Step("ssd", "7")
    assert service.answered("someone else") == ()


def test_a_restricted_question_leaves_the_rest(
    telling: Telling, client: InferenceServerClient
) -> None:
    telling.closed = {"metadata"}
    service = describe(client)
    assert (service.server, service.ready, service.settings) == (None, True, SETTINGS)
    assert service.answered("ensemble")[1] == Step("ssd", None)
    assert service.untold[0].startswith("server metadata: This protocol is restricted")


def test_a_server_that_restricts_all_was_reached(
    telling: Telling, client: InferenceServerClient
) -> None:
    telling.closed = {"metadata", "model-config", "statistics"}
    service = describe(client)
    assert service.reached
    assert service.ensemble is None
    assert totals(client) is None
    assert step_times(client, None, STEPS) == ()


def test_an_address_where_nothing_listens(nowhere: str) -> None:
    with InferenceServerClient(nowhere) as client:
        service = describe(client)
        assert totals(client) is None
    assert not service.reached
    assert (service.ready, service.ensemble, service.canary) == (None, None, None)
    assert "Connection refused" in service.untold[0]


def test_a_listener_that_hangs_costs_the_given_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung:
        url = f"127.0.0.1:{hung.getsockname()[1]}"
        with InferenceServerClient(url) as client:
            start = time.monotonic()
            assert not describe(client, seconds=0.3).reached
            assert time.monotonic() - start < 10


def test_times_are_means_of_what_came_in_between(
    telling: Telling, client: InferenceServerClient
) -> None:
    before = totals(client)
    telling.counted += 3
    times = step_times(client, before, STEPS)
    assert [(step.requests, step.infer_ms, step.total_ms) for step in times] == [(4, 1, 1)] * 3


def test_behind_a_gateway_no_times_are_told(telling: Telling) -> None:
    with connect(telling.url) as server:
        assert describe(server).gateway is None
        before = totals(server)
        telling.gateway = "ssd-gateway"
        assert describe(server).gateway == "ssd-gateway"
        assert totals(server) is None
        assert step_times(server, before, STEPS) == ()


def test_times_since_the_start(client: InferenceServerClient) -> None:
    assert [step.requests for step in step_times(client, {}, STEPS)] == [1, 1, 1]


def test_a_step_that_has_not_answered_has_no_time(client: InferenceServerClient) -> None:
    before = totals(client)
    times = step_times(client, before, (*STEPS, Step("ssd", "1")))
    assert [step.model for step in times] == ["preprocess", "ssd", "postprocess"]


def test_a_model_that_was_loaded_anew_has_no_time(
    telling: Telling, client: InferenceServerClient
) -> None:
    telling.counted = 10_000
    before = totals(client)
    telling.counted = 0
    assert step_times(client, before, STEPS) == ()
