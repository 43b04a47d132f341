from pathlib import Path

from benchmarks.litert import open_network, race_sessions
from tests.training.shipped_lite import write_artifact


def test_both_runtimes_are_timed_on_as_many_images(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path)
    sessions = {name: open_network(artifact / name, 1) for name in ("model.onnx", "model.tflite")}
    times = race_sessions(sessions, 300, rounds=2)
    assert {name: len(taken) for name, taken in times.items()} == dict.fromkeys(sessions, 2)
    assert min(min(taken) for taken in times.values()) > 0.1  # ms; no network is that quick
