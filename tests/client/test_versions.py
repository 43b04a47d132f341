import pytest
from google.protobuf import json_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from client.versions import live_version, pin_of, wanted_versions


def ensemble_of(version: int) -> ModelConfig:
    config = ModelConfig()
    config.ensemble_scheduling.step.add(model_name="ssd", model_version=version)
    return config


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ({}, {9}),
        ({"latest": {"num_versions": 2}}, {3, 9}),
        ({"all": {}}, {1, 3, 9}),
        ({"specific": {"versions": [1, 4]}}, {1, 4}),
    ],
)
def test_what_is_served_and_live(policy: dict[str, dict[str, object]], wanted: set[int]) -> None:
    config = json_format.ParseDict({"version_policy": policy} if policy else {}, ModelConfig())

    assert wanted_versions(config, {1, 3, 9}) == wanted
    assert live_version(ensemble_of(-1), "ssd", config, {1, 3, 9}) == max(wanted)
    assert live_version(ensemble_of(3), "ssd", config, {1, 3, 9}) == 3


def test_a_model_that_is_no_step_is_not_pinned() -> None:
    assert pin_of(ensemble_of(3), "preprocess") == -1
