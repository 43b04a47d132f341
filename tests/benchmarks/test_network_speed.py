import json
from pathlib import Path

import onnx
import pytest

from benchmarks.network_speed import Settings, compare_times, main
from tests.serving.tiny_network import network as tiny_network


def test_times_are_beside_those_of_the_first_in_the_same_round() -> None:
    found = compare_times({"a": [1.0, 2.0, 4.0], "b": [2.0, 4.0, 8.0]})
    assert found["b"] == {"ms": [2.0, 4.0, 8.0], "beside the first": [2.0, 2.0, 2.0]}
    assert found["a"]["beside the first"] == [1.0, 1.0, 1.0]


def test_figures_are_written_with_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, size in (("small", 32), ("large", 48)):
        onnx.save(tiny_network(size, 5, 2), tmp_path / f"{name}.onnx")
    networks = (tmp_path / "small.onnx", tmp_path / "large.onnx")
    assert main(Settings(networks, rounds=3, output=tmp_path / "speed.json")) == 0
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found == json.loads(capsys.readouterr().out)
    assert found["rounds"] == 3
    assert found["machine"]["cores"] > 0
    assert len(found[str(networks[1])]["beside the first"]) == 3
