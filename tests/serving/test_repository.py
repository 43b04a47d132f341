"""Rendering keeps everything but the sizes and labels."""

from collections.abc import Callable
from pathlib import Path

import pytest

from serving.artifact import read_artifact
from serving.errors import PublishError
from serving.repository import (
    TEMPLATE,
    next_version,
    read_config,
    read_labels,
    read_signature,
    render,
)


def test_shipped_repository() -> None:
    assert read_signature(TEMPLATE).images == (300, 300, 3)
    assert read_labels(TEMPLATE) == ("RBC", "WBC", "Platelets")


def test_render(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    artifact = read_artifact(make_artifact(["a", "b"], size=64, keep=20))
    render(TEMPLATE, artifact, tmp_path / "new")
    assert read_signature(tmp_path / "new") == artifact.signature
    assert read_labels(tmp_path / "new") == ("a", "b")
    assert [path.name for path in (tmp_path / "new" / "ssd").glob("[0-9]*")] == ["1"]
    code = Path("preprocess") / "1" / "model.py"
    assert (tmp_path / "new" / code).read_bytes() == (TEMPLATE / code).read_bytes()
    assert (tmp_path / "new" / "ensemble" / "1" / ".keep").exists()


def test_every_tensor_between_the_models_has_the_new_size(
    make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = read_artifact(make_artifact(["a", "b"], size=64, keep=20))
    render(TEMPLATE, artifact, tmp_path / "new")
    for path in (tmp_path / "new").glob("*/config.pbtxt"):
        config = read_config(path)
        for tensor in [*config.input, *config.output]:
            expected = getattr(artifact.signature, tensor.name, tuple(tensor.dims))
            assert tuple(tensor.dims) == expected


def test_next_version(tmp_path: Path) -> None:
    (tmp_path / "ssd").mkdir()
    assert next_version(tmp_path) == 1
    for name in ("2", "10", "notes"):
        (tmp_path / "ssd" / name).mkdir()
    assert next_version(tmp_path) == 11


def test_malformed_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_text("name: ")
    with pytest.raises(PublishError, match=r"config\.pbtxt cannot be read"):
        read_config(tmp_path / "config.pbtxt")
