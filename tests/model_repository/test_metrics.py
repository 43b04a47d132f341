"""metrics.py, which stands in both folders, with a small stand-in for Triton."""

import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.conftest import PROJECT, wait_until

REPOSITORY = PROJECT / "model_repository"


@pytest.fixture
def metrics(load: Callable[[str, str], ModuleType]) -> ModuleType:
    return load("preprocess", "metrics")


@pytest.fixture
def counter(metrics: Any) -> Any:
    return metrics.Counter()


@pytest.fixture
def histogram(metrics: Any) -> Any:
    return metrics.Histogram((1, 10))


@pytest.fixture
def report(triton: Any, metrics: Any, counter: Any, histogram: Any) -> Iterator[Callable[[], Any]]:
    """report(): a reporter of a counter and a histogram, in a thread that ends with the test."""
    measured = [
        metrics.Measured("photos", "Photos", {"kind": "gray"}, counter),
        metrics.Measured("width", "Width of photos", {}, histogram),
    ]
    reporters = []

    def start() -> Any:
        reporters.append(metrics.Reporter(triton, "mine", measured))
        return reporters[-1]

    yield start
    for reporter in reporters:
        reporter.stop()


def shown(triton: Any) -> dict[str, float]:
    """What Triton shows, by name and labels as Prometheus writes them."""
    return {
        name + "".join(f",{key}={value}" for key, value in sorted(labels)): value
        for (name, labels), value in triton.MetricFamily.values.items()
    }


def test_both_models_have_the_same() -> None:
    one, other = (REPOSITORY / model / "1/metrics.py" for model in ("preprocess", "postprocess"))
    assert one.read_text() == other.read_text(), f"cp {one} {other}"


def test_a_histogram_of_nothing(histogram: Any) -> None:
    assert {value for *_, value in histogram.samples()} == {0}


def test_an_edge_belongs_to_the_bin_below_it(histogram: Any) -> None:
    for value in (0, 1, 1.5, 10, 10.1, 99):
        histogram.add(value)

    assert histogram.counts == [2, 2, 2]
    assert list(histogram.samples()) == [
        ("_count", {}, 6),
        ("_sum", {}, pytest.approx(121.6)),
        ("_bucket", {"le": "+Inf"}, 6),
        ("_bucket", {"le": "10"}, 4),
        ("_bucket", {"le": "1"}, 2),
    ]


def test_all_is_there_before_anything_is_counted(triton: Any, report: Callable[[], Any]) -> None:
    report()

    wait_until(lambda: len(triton.MetricFamily.values) == 6)
    assert set(shown(triton).values()) == {0}
    assert "photos_total,kind=gray,model=mine" in shown(triton)


def test_what_is_new_is_handed_over(
    triton: Any,
    metrics: Any,
    report: Callable[[], Any],
    counter: Any,
    histogram: Any,
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(metrics, "PERIOD", 0.05)
    reporter = report()
    counter.add(2)
    histogram.add(5)
    wait_until(lambda: shown(triton).get("photos_total,kind=gray,model=mine") == 2)
    counter.add()
    histogram.add(50)
    reporter.stop()  # the rest comes then, whatever the time

    assert shown(triton) == {
        "photos_total,kind=gray,model=mine": 3,
        "width_count,model=mine": 2,
        "width_sum,model=mine": 55,
        "width_bucket,le=1,model=mine": 0,
        "width_bucket,le=10,model=mine": 1,
        "width_bucket,le=+Inf,model=mine": 2,
    }


def test_several_processes_of_a_model_add_up(
    triton: Any, metrics: Any, report: Callable[[], Any], counter: Any
) -> None:
    other = metrics.Counter()
    measured = [metrics.Measured("photos", "Photos", {"kind": "gray"}, other)]
    counter.add(2)
    other.add(3)

    report().stop()
    metrics.Reporter(triton, "mine", measured).stop()

    assert shown(triton)["photos_total,kind=gray,model=mine"] == 5


def test_a_check_is_not_counted(report: Callable[[], Any], counter: Any) -> None:
    reporter = report()

    for parameters in ('{"x-probe": true}', "", "{}", '{"score_threshold": 0.3, "a": "x-probe"}'):
        reporter.attempt(parameters, counter.add, 1)

    assert counter.value == 3


def test_what_fails_is_said_once(triton: Any, report: Callable[[], Any], counter: Any) -> None:
    reporter = report()

    for _ in range(3):
        reporter.attempt("", counter.add, "no number")

    assert len(triton.Logger.errors) == 1
    assert "not measured for /metrics: TypeError" in triton.Logger.errors[0]


@pytest.mark.parametrize("older", ["without any", "without labels", "that refuses"])
def test_a_triton_that_cannot_count(
    triton: Any, report: Callable[[], Any], counter: Any, older: str, monkeypatch: Any
) -> None:
    """NVIDIA's releases before 23.05, or a server with its metrics turned off."""
    if older == "without any":
        monkeypatch.delattr(triton, "MetricFamily")
    elif older == "without labels":
        monkeypatch.setattr(triton.MetricFamily, "Metric", lambda self: None)
    else:
        monkeypatch.setattr(triton.MetricFamily, "__init__", lambda self, **_: 1 / 0)
    reporter = report()
    wait_until(lambda: triton.Logger.errors)
    reporter.attempt("", counter.add)
    reporter.stop()

    assert counter.value == 1
    assert len(triton.Logger.errors) == 1


def test_with_very_many_counters_it_waits_longer(
    triton: Any, metrics: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a hundredth of a core at most, whatever one increment takes."""
    waits: list[float] = []

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            return len(waits) == 3

    times = iter([0.0, 0.001, 10.0, 10.5, 60.0, 60.0])
    parts = SimpleNamespace(Event=Stopping, Thread=threading.Thread)
    monkeypatch.setattr(metrics, "threading", parts)
    monkeypatch.setattr(metrics, "time", SimpleNamespace(thread_time=lambda: next(times)))

    metrics.Reporter(triton, "mine", []).stop()

    assert waits == [0, metrics.PERIOD, pytest.approx(50)]
