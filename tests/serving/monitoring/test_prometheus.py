"""Prometheus' API: what it answers, and what else may stand at the address that was given."""

import pytest

from serving.errors import DriftError
from serving.monitoring.prometheus import Prometheus, Series
from tests.serving.monitoring.conftest import Answering


def test_no_series(answering: Answering) -> None:
    url = answering(200, '{"status":"success","data":{"resultType":"vector","result":[]}}')
    prometheus = Prometheus(url + "/")
    assert prometheus.url == url
    assert prometheus.query("up") == []


def test_series(answering: Answering) -> None:
    entry = '{"metric":{"le":"+Inf"},"value":[1435781451.781,"1e+06"]}'
    url = answering(200, f'{{"status":"success","data":{{"result":[{entry}]}}}}')
    assert Prometheus(url).query("x") == [Series({"le": "+Inf"}, 1e6)]


@pytest.mark.parametrize(
    "url", ["127.0.0.1:9090", "", "ftp://x", "http://", "http://[", "http://a:b"]
)
def test_no_address(url: str) -> None:
    with pytest.raises(DriftError, match=r"--prometheus must be an address such as http://127"):
        Prometheus(url)


def test_nobody_there() -> None:
    with pytest.raises(DriftError, match=r"at http://127.0.0.1:1 does not answer \(\[Errno 111\]"):
        Prometheus("http://127.0.0.1:1").query("up")


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(DriftError, match=r"at http://nowhere.invalid does not answer \("):
        Prometheus("http://nowhere.invalid").query("up")


def test_a_refusal_is_told(answering: Answering) -> None:
    url = answering(400, '{"status":"error","errorType":"bad_data","error":"parse error: x"}')
    with pytest.raises(DriftError, match=r"^Prometheus at http.* refuses up\{: parse error: x$"):
        Prometheus(url).query("up{")


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (200, ""),
        (200, "<html>\nGrafana</html>"),
        (404, "404 page not found"),
        (401, '{"message":"Unauthorized"}'),
        (200, "[]"),
        (200, "null"),
        (200, '{"status":"success","data":{"result":[{"metric":{}}]}}'),
        (200, '{"status":"success","data":{"result":[{"metric":{},"value":[1,"x"]}]}}'),
        (200, '{"status":"success","data":{"result":7}}'),
    ],
)
def test_something_else_answers(answering: Answering, status: int, text: str) -> None:
    with pytest.raises(DriftError, match="answers, but not as Prometheus does") as told:
        Prometheus(answering(status, text)).query("up")
    assert repr(text[:60]) in str(told.value)
    assert "\n" not in str(told.value)
