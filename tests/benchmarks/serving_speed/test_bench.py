"""Which networks of a repository are measured."""

from pathlib import Path

from benchmarks.contestants.ensemble import newest_network
from benchmarks.serving_speed.bench import Settings, networks


def test_networks_of_a_repository(tmp_path: Path) -> None:
    for version, content in (("1", b"plain"), ("2", b"QuantizeLinear"), ("10", b"QuantizeLinear")):
        folder = tmp_path / "ssd" / version
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(content)
    found = networks(Settings(repository=tmp_path))
    assert {name: path.parent.name for name, path in found.items()} == {
        "float32": "1",
        "int8": "10",
    }
    only = Settings(repository=tmp_path, precisions=("int8",))
    assert list(networks(only)) == ["int8"]
    assert newest_network(tmp_path).parent.name == "10"
