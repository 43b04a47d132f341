"""Measurements of several rounds together, and the private copy that is measured."""

import os
from pathlib import Path

import pytest

from serving.errors import TuneError
from serving.model_config import list_configs, read_config, with_pin, with_policy
from serving.repository import State, open_repository
from serving.store.address import open_store
from serving.tuning.candidates import AS_IS, Candidate
from serving.tuning.load_generator import Sample
from serving.tuning.measurement import (
    Level,
    Result,
    copy_live_version,
    find_decoder,
    find_photos,
    pool_samples,
    read_memory,
    write_variants,
)


def test_nothing_answered() -> None:
    assert pool_samples(1, []) is None
    assert pool_samples(1, [Sample(1.0, [5.0])]) is None
    assert Result(AS_IS).best(0) is None


def test_rounds_together() -> None:
    latencies = list(map(float, range(1, 101)))
    level = pool_samples(4, [Sample(1.0, latencies[:50]), Sample(1.0, latencies[50:], failures=2)])
    assert level
    assert (level.concurrency, level.throughput, level.failures) == (4, 50.0, 2)
    assert (level.p50, level.p99) == pytest.approx((50.5, 99.01))
    assert not level.meets(0)
    assert Level(4, 50.0, 1.0, 20.0, 0).meets(0)
    assert Level(4, 50.0, 1.0, 20.0, 0).meets(20)
    assert not Level(4, 50.0, 1.0, 20.0, 0).meets(19.9)


def test_the_load_that_suits_a_candidate_best() -> None:
    result = Result(AS_IS)
    result.add(1, Sample(1.0, [10.0] * 100))
    result.add(4, Sample(1.0, [20.0] * 180))
    result.add(8, Sample(1.0, [45.0] * 170))
    chosen = [level.concurrency if (level := result.best(ms)) else 0 for ms in (0, 30, 15, 5)]
    assert chosen == [4, 4, 1, 1]
    result.trouble = "does not load"
    assert result.best(0) is None


def test_copy_is_the_live_version_alone(repository: Path, tmp_path: Path) -> None:
    store = open_store(repository)
    network = store.read("ssd/1/model.onnx")
    store.place("ssd/2", {"model.onnx": network})
    store.place("ssd/3", {"model.onnx": network})
    policy = store.read("ssd/config.pbtxt").decode()
    store.write("ssd/config.pbtxt", with_policy(policy, frozenset({2, 3})).encode())
    pinned = with_pin(store.read("ensemble/config.pbtxt").decode(), "ssd", 2)
    store.write("ensemble/config.pbtxt", pinned.encode())
    copy = copy_live_version(open_repository(store, "ensemble"), tmp_path / "copy")
    assert copy.versions() == [2]
    assert copy.state() == State(2)
    assert "specific" not in copy.store.read("ssd/config.pbtxt").decode()
    assert list_configs(copy.store, "ssd") == ["ssd/config.pbtxt"]
    assert find_decoder(copy) == "preprocess"


def test_only_what_changes_is_written(repository: Path) -> None:
    store = open_store(repository)
    models = ("ssd", "preprocess")
    assert write_variants(store, models, AS_IS, "mine") == ["ssd", "preprocess"]
    assert write_variants(store, models, AS_IS, "mine") == []
    assert write_variants(store, models, Candidate(decoders=2), "mine") == ["preprocess"]
    assert read_config(store, "preprocess", "mine").instance_group[0].count == 2
    assert read_config(store, "preprocess").instance_group[0].count == 1


def test_no_photos(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(TuneError, match="is no folder with photos: name one with --photos"):
            find_photos(folder)


def test_memory() -> None:
    assert 1 < read_memory(os.getpid()) < 10_000
    assert read_memory(2**22 + 1) == 0
