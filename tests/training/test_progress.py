import pytest

from training import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is: [seconds]."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def _step(counter: progress.Progress, clock: list[float], seconds: float) -> None:
    clock[0] += seconds
    counter.advance()


def test_the_step_that_compiles_is_left_out(clock: list[float]) -> None:
    """A run that continues at step 10 of 20, in batches of 4."""
    counter = progress.Progress(20, 10, 4, visible=False)
    _step(counter, clock, 60.0)
    assert counter.images_per_second() is None
    assert counter.time_left() == ""
    for _ in range(2):
        _step(counter, clock, 0.5)
    assert counter.images_per_second() == pytest.approx(8.0)
    assert counter.time_left() == "00:03 left"  # 7 steps


def test_an_evaluation_costs_time_but_no_speed(clock: list[float]) -> None:
    counter = progress.Progress(20, 0, 4, visible=False)
    _step(counter, clock, 60.0)
    counter.images_per_second()
    clock[0] += 8.0
    counter.resume()
    for _ in range(2):
        _step(counter, clock, 1.0)
    assert counter.images_per_second() == pytest.approx(4.0)
    assert counter.time_left() == "01:25 left"  # 17 steps of 10 s / 2


def test_the_time_of_a_run_is_told_from_its_first_steps(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    counter = progress.Progress(300, 0, 4, visible=True)
    _step(counter, clock, 60.0)
    counter.images_per_second()
    counter.tell_estimate()
    for _ in range(4):
        _step(counter, clock, 2.0)
    counter.tell_estimate()
    assert capsys.readouterr().out == "09:50 to go: 295 steps of 2 s, and the evaluations\n"


def test_a_log_file_gets_lines(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress(20, 0, 4, visible=True) as counter:
        _step(counter, clock, 1.0)
        counter.images_per_second()
        _step(counter, clock, 1.0)
        counter.show(1, {"loss": "2.500"})
        counter.tell(1, {"loss": "2.500", "mAP@.5": "0.800"})
    said = capsys.readouterr()
    assert said.out == "epoch 1: step 2/20, loss 2.500, mAP@.5 0.800, 00:18 left\n"
    assert said.err == ""


def test_other_workers_say_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    counter = progress.Progress(20, 0, 4, visible=False)
    counter.tell(1, {})
    counter.tell_estimate()
    assert capsys.readouterr() == ("", "")
