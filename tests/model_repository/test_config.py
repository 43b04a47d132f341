"""The four config.pbtxt files fit together, and each is complete."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2] / "model_repository"
MODELS = ["preprocess", "ssd", "postprocess", "ensemble"]
ConfigOf = Callable[[str], dict[str, Any]]


def tensors(config: dict[str, Any], kind: str) -> dict[str, tuple[str, list[int]]]:
    return {
        tensor["name"]: (tensor["data_type"], [int(size) for size in tensor["dims"]])
        for tensor in config[kind]
    }


@pytest.mark.parametrize("model", MODELS)
def test_complete(config_of: ConfigOf, model: str) -> None:
    config = config_of(model)

    assert config["name"] == model
    assert config["max_batch_size"] == 8
    assert config.get("backend") or config.get("platform") == "ensemble"
    for dims in (tensors(config, "input") | tensors(config, "output")).values():
        assert min(dims[1]) > 0
    assert any(path.is_dir() and path.name == "1" for path in (REPOSITORY / model).iterdir())


def test_the_steps_fit_together(config_of: ConfigOf) -> None:
    """Each step's inputs are what an earlier step gives, down to type and shape."""
    ensemble = config_of("ensemble")
    known = tensors(ensemble, "input")
    for step in ensemble["ensemble_scheduling"]["step"]:
        config = config_of(step["model_name"])
        inputs, outputs = tensors(config, "input"), tensors(config, "output")
        assert {name: known[value] for name, value in step["input_map"].items()} == inputs
        assert step["output_map"].keys() == outputs.keys()
        known |= {value: outputs[name] for name, value in step["output_map"].items()}
    outputs = tensors(ensemble, "output")
    assert outputs == {name: known[name] for name in outputs}


def test_one_label_per_class(config_of: ConfigOf) -> None:
    labels = (REPOSITORY / "postprocess" / "labels.txt").read_text().splitlines()

    assert len(labels) == tensors(config_of("ssd"), "output")["scores"][1][1]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("model", ["preprocess", "postprocess"])
def test_python_cannot_leave_its_cache(model: str) -> None:
    """A folder __pycache__ that appears looks like an update to a server that watches."""
    assert (REPOSITORY / model / "1" / "__pycache__").is_file()
