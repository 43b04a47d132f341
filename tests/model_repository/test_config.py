"""The four config.pbtxt files fit together, and each is complete."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from tests.conftest import PROJECT

REPOSITORY = PROJECT / "model_repository"
MODELS = ["preprocess", "ssd", "postprocess", "ensemble"]
STEPS = ["preprocess", "postprocess"]  # in Python
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


def test_the_python_steps_resize_alike(config_of: ConfigOf) -> None:
    said = {config_of(model)["parameters"]["resize"]["string_value"] for model in STEPS}

    assert said == {"stretch"}


def test_one_label_per_class(config_of: ConfigOf) -> None:
    labels = (REPOSITORY / "postprocess" / "labels.txt").read_text().splitlines()

    assert len(labels) == tensors(config_of("ssd"), "output")["scores"][1][1]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("model", ["preprocess", "postprocess"])
def test_python_cannot_leave_its_cache(model: str) -> None:
    """A folder __pycache__ that appears looks like an update to a server that watches."""
    assert (REPOSITORY / model / "1" / "__pycache__").is_file()


def test_one_thread_for_each_of_two_instances_on_the_cpu() -> None:
    """Right for both runtimes; what only the embedded one knows is a parameter of another name."""
    config = text_format.Parse((REPOSITORY / "ssd" / "config.pbtxt").read_text(), ModelConfig())
    groups = [(group.kind, group.count) for group in config.instance_group]
    assert groups == [(ModelInstanceGroup.KIND_CPU, 2)]
    given = {name: value.string_value for name, value in config.parameters.items()}
    assert given == {"intra_op_thread_count": "1", "threads_follow_load": "1"}


VARIANTS = sorted(REPOSITORY.glob("*/configs/*.pbtxt"))
# What the README of Triton's ONNX Runtime backend names for TensorRT, as far as it is used here.
TENSORRT_KEYS = {
    "precision_mode",
    "max_workspace_size_bytes",
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
    "trt_timing_cache_enable",
    "trt_timing_cache_path",
}


@pytest.mark.parametrize("path", VARIANTS, ids=lambda path: path.stem)
def test_variant_says_the_same_of_the_tensors(config_of: ConfigOf, path: Path) -> None:
    parsed = text_format.Parse(path.read_text(), ModelConfig())
    variant = json_format.MessageToDict(parsed, preserving_proto_field_name=True)
    config = config_of(path.parts[-3])
    for key in ("name", "backend", "max_batch_size", "version_policy", "input", "output"):
        assert variant[key] == config[key]
    for sample in parsed.model_warmup:
        assert list(sample.inputs["images"].dims) == [300, 300, 3]
        assert sample.batch_size in (1, parsed.max_batch_size)


def test_gpu_variants() -> None:
    assert [path.stem for path in VARIANTS] == ["gpu", "tensorrt"]
    for path in VARIANTS:
        config = text_format.Parse(path.read_text(), ModelConfig())
        assert [group.kind for group in config.instance_group] == [ModelInstanceGroup.KIND_GPU]
        accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
        assert [each.name for each in accelerators] == ["tensorrt"] * (path.stem == "tensorrt")
        for each in accelerators:
            assert set(each.parameters) <= TENSORRT_KEYS
