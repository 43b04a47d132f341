"""Few settings, all of them sensible, for any number of cores; and what they change."""

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving.model_config import parse_config
from serving.template import TEMPLATE
from serving.tuning import candidates
from serving.tuning.candidates import (
    AS_IS,
    Candidate,
    choose_levels,
    keep_distinct,
    plan_steps,
)

SSD = (TEMPLATE / "ssd" / "config.pbtxt").read_text()
PREPROCESS = (TEMPLATE / "preprocess" / "config.pbtxt").read_text()


def network(candidate: Candidate) -> ModelConfig:
    config = parse_config(SSD)
    candidate.tune_network(config)
    return config


def decoder(candidate: Candidate) -> ModelConfig:
    config = parse_config(PREPROCESS)
    candidate.tune_decoder(config)
    return config


def test_as_it_is() -> None:
    assert network(AS_IS) == parse_config(SSD)
    assert decoder(AS_IS) == parse_config(PREPROCESS)


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, [(1, 1)]),
        (2, [(1, 2), (2, 1)]),
        (3, [(1, 3), (3, 1), (3, 0)]),
        (8, [(1, 8), (4, 2), (8, 1), (8, 0)]),
    ],
)
def test_cores_are_divided(cores: int, expected: list[tuple[int, int]]) -> None:
    assert [(c.instances, c.threads) for c in candidates.split_cores(AS_IS, cores)] == expected


@pytest.mark.parametrize(
    ("cores", "expected"), [(1, [1]), (2, [1, 2]), (4, [1, 2]), (16, [1, 2, 4])]
)
def test_decoders(cores: int, expected: list[int]) -> None:
    assert candidates.choose_decoders(cores) == expected


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 8, 64, 192])
def test_no_measurement_is_for_nothing(cores: int) -> None:
    """No two that come to the same, so few that they take minutes."""
    configs = parse_config(SSD), parse_config(PREPROCESS)
    found = [keep_distinct([AS_IS, *step(AS_IS)], *configs) for step in plan_steps(cores)]
    assert all(each[0] == AS_IS for each in found)
    assert sum(map(len, found)) <= 11
    assert len(found[2]) == 2  # alone and together, one of which is as it is
    assert choose_levels(cores)[0] == 1
    assert len(choose_levels(cores)) == len(set(choose_levels(cores))) <= 4


def test_what_a_candidate_changes() -> None:
    tuned = network(Candidate(instances=4, threads=2, decoders=3, together=True))
    assert [(g.kind, g.count) for g in tuned.instance_group] == [(2, 4)]
    assert tuned.parameters["intra_op_thread_count"].string_value == "2"
    assert tuned.HasField("dynamic_batching")
    assert not network(Candidate(together=False)).HasField("dynamic_batching")
    tuned.dynamic_batching.preferred_batch_size[:] = [1]
    assert candidates.describe_settings(tuned, tuned)[3] == "alone"
    Candidate(together=True).tune_network(tuned)
    assert candidates.describe_settings(tuned, tuned)[3] == "together"
    assert decoder(Candidate(instances=4, decoders=3)).instance_group[0].count == 3
    assert "threads_follow_load" not in tuned.parameters
    Candidate(threads=0).tune_network(tuned)
    assert tuned.parameters["intra_op_thread_count"].string_value == "1"  # for the container
    assert tuned.parameters["threads_follow_load"].string_value == "1"


def test_in_words() -> None:
    tuned = Candidate(instances=4, threads=2, decoders=3, together=True)
    assert candidates.describe_settings(network(tuned), decoder(tuned)) == (
        "4",
        "2",
        "3",
        "together",
    )
    alone = Candidate(instances=2, threads=0, together=False)
    assert candidates.describe_settings(network(alone), decoder(alone)) == (
        "2",
        "by load",
        "1",
        "alone",
    )
    assert candidates.describe_settings(ModelConfig(), ModelConfig()) == (
        "1",
        "by load",
        "1",
        "alone",
    )
    assert candidates.describe_settings(parse_config(SSD), parse_config(PREPROCESS)) == (
        "2",
        "by load",
        "1",
        "alone",
    )
