"""The gateway's benchmark: its arithmetic."""

from benchmarks.gateway import summarise_memory


def test_memory_of_nothing() -> None:
    assert summarise_memory([]) == {}


def test_memory_by_role_without_the_generators() -> None:
    generator = {"benchmarks.load.generator": 50.0}
    samples = [{"envoy": size, **generator} for size in (10.0, 20.0, 40.0, 30.0, 25.0)]
    assert summarise_memory(samples) == {
        "envoy": {"first": 10.0, "after a fifth": 20.0, "largest": 40.0, "last": 25.0}
    }
