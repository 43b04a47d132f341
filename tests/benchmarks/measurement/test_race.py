from pathlib import Path

import onnx

from benchmarks.measurement.race import race_networks
from tests.serving.tiny_network import network as tiny_network


def test_networks_of_any_size_are_timed_in_each_round(tmp_path: Path) -> None:
    onnx.save(tiny_network(48, 5, 2), tmp_path / "large.onnx")
    small = tiny_network(32, 5, 2).SerializeToString()
    times = race_networks({"large": tmp_path / "large.onnx", "small": small}, rounds=7)
    assert {name: len(taken) for name, taken in times.items()} == {"large": 7, "small": 7}
    assert min(map(min, times.values())) > 0


def test_no_networks() -> None:
    assert race_networks({}, rounds=2) == {}
