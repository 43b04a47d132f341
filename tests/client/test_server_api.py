import pytest
from tritonclient.utils import InferenceServerException

from client import InvalidParameter
from client.server_api import connect
from client.service import describe, totals
from serving.server.server import EmbeddedServer


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
