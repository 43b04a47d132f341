import time
from collections.abc import Iterator

import pytest
from tritonclient.utils import InferenceServerException

from client import InvalidParameter, Security
from client.server_api import connect
from client.service import Service, describe, totals
from serving.server.server import EmbeddedServer
from tests.client.http_service import HttpService, serve_http, slowly


@pytest.fixture
def http() -> Iterator[HttpService]:
    with serve_http() as service:
        yield service


def test_http_tells_what_grpc_tells(server: EmbeddedServer) -> None:
    with connect(server.grpc_url) as grpc, connect(f"http://{server.http_url}") as http:
        assert describe(http) == describe(grpc)
        assert describe(http, "ssd") == describe(grpc, "ssd")
        assert describe(http, "potholes") == describe(grpc, "potholes")
        by_grpc, by_http = totals(grpc), totals(http)
    assert by_grpc is not None
    assert by_http is not None
    assert by_http.keys() == by_grpc.keys()
    assert all((by_http[step] >= by_grpc[step]).all() for step in by_grpc)


def test_a_port_that_says_yes_to_all_is_no_server(server: EmbeddedServer) -> None:
    with connect(f"http://{server.metrics_url}") as metrics:
        assert not describe(metrics).reached


def test_a_port_of_the_other_protocol(server: EmbeddedServer) -> None:
    with connect(f"http://{server.grpc_url}") as wrong:
        assert not describe(wrong).reached
        with pytest.raises(InferenceServerException) as caught:
            wrong.get_server_metadata(client_timeout=5)
    assert caught.value.status() == "UNAVAILABLE"


def test_an_address_that_makes_no_sense() -> None:
    with pytest.raises(InvalidParameter):
        connect("somewhere")


def test_a_server_that_stops_is_unavailable_whichever_way_it_is_asked(http: HttpService) -> None:
    http.answer = lambda handler: handler.reply(503, b'{"error": "Server is stopping"}')
    with connect(http.url) as client, pytest.raises(InferenceServerException) as caught:
        client.get_server_metadata(client_timeout=5)
    assert (caught.value.status(), caught.value.message()) == ("UNAVAILABLE", "Server is stopping")
    assert not describe_of(http).reached


def describe_of(http: HttpService) -> Service:
    with connect(http.url) as client:
        return describe(client)


def test_a_key_is_not_carried_to_where_a_server_points(http: HttpService) -> None:
    with serve_http() as elsewhere:
        http.answer = lambda handler: handler.reply(302, b"", Location=f"{elsewhere.url}/v2")
        with (
            connect(http.url, Security(api_key="secret")) as client,
            pytest.raises(InferenceServerException, match="302"),
        ):
            client.get_server_metadata(client_timeout=5)
        assert (http.headers[0]["x-api-key"], elsewhere.headers) == ("secret", [])


def test_the_time_is_kept_however_slowly_a_server_answers(http: HttpService) -> None:
    http.answer = slowly
    begin = time.monotonic()
    with connect(http.url) as client, pytest.raises(InferenceServerException) as caught:
        client.get_server_metadata(client_timeout=0.3)
    assert time.monotonic() - begin < 5
    assert caught.value.status() == "DEADLINE_EXCEEDED"


def test_one_connection_serves_all_questions(http: HttpService) -> None:
    http.answer = lambda handler: handler.reply(200, b"{}")
    describe_of(http)
    assert len(http.paths) > 3
    assert len(http.clients) == 1


def test_a_models_name_may_be_any(http: HttpService) -> None:
    http.answer = lambda handler: handler.reply(400, b"")
    with connect(http.url) as client:
        assert not client.is_model_ready("a b/c", client_timeout=5)
    assert http.paths == ["/v2/models/a%20b%2Fc/ready"]
