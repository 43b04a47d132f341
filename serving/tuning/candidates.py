"""Settings that `serving tune` tries: what they are, and how they stand in a configuration.

    instances     how many copies of the network there are, each with its own thread of requests
    threads       of each copy; 0: they follow the load in the embedded server, one in the container
    decoders      processes that run preprocess
    together      whether requests that wait for the network go through it as one batch

They are looked for one after the other, each step beginning with the best of the one before it: all
combinations would take an hour, and only the first two matter to each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

THREADS = "intra_op_thread_count"  # the parameter, of both ONNX Runtime backends
FOLLOW = "threads_follow_load"  # what the one in Python heeds instead, the one in C++ does not know


@dataclass(frozen=True)
class Candidate:
    """One choice of settings; what is None stays as config.pbtxt has it."""

    instances: int | None = None
    threads: int | None = None
    decoders: int | None = None
    together: bool | None = None

    def tune_network(self, config: ModelConfig) -> None:
        """Put the settings into the network's configuration."""
        _set_instances(config, self.instances)
        if self.threads is not None:
            config.parameters[THREADS].string_value = str(self.threads or 1)
            config.parameters.pop(FOLLOW, None)
        if self.threads == 0:
            config.parameters[FOLLOW].string_value = "1"
        if self.together:
            config.dynamic_batching.SetInParent()
            del config.dynamic_batching.preferred_batch_size[:]
        elif self.together is not None:
            config.ClearField("dynamic_batching")

    def tune_decoder(self, config: ModelConfig) -> None:
        """Put the settings into preprocess' configuration."""
        _set_instances(config, self.decoders)


AS_IS = Candidate()


def _set_instances(config: ModelConfig, count: int | None) -> None:
    """Have so many instances, on the CPU."""
    if count is not None:
        del config.instance_group[:]
        config.instance_group.add(kind=ModelInstanceGroup.KIND_CPU, count=count)


def plan_steps(cores: int) -> list[Callable[[Candidate], list[Candidate]]]:
    """What to try in each step beside the best so far."""
    return [
        lambda best: split_cores(best, cores),
        lambda best: [replace(best, decoders=n) for n in choose_decoders(cores)],
        lambda best: [replace(best, together=each) for each in (False, True)],
    ]


def split_cores(best: Candidate, cores: int) -> list[Candidate]:
    """The cores divided among instances of the network: all for one, two for each, one for each."""
    counts = sorted({1, max(1, cores // 2), cores})
    found = [replace(best, instances=n, threads=max(1, cores // n)) for n in counts]
    return [*found, replace(best, instances=cores, threads=0)] if cores > 2 else found


def choose_decoders(cores: int) -> list[int]:
    """Decoding takes a fifth of what the network takes, or less."""
    return sorted({1, min(2, cores), max(1, cores // 4)})


def keep_distinct(
    found: Sequence[Candidate], network: ModelConfig, decoder: ModelConfig
) -> list[Candidate]:
    """The first of each that come to the same, applied to these configurations."""
    effects: dict[tuple[str, str], Candidate] = {}
    for candidate in found:
        copies = ModelConfig(), ModelConfig()
        copies[0].CopyFrom(network)
        copies[1].CopyFrom(decoder)
        candidate.tune_network(copies[0])
        candidate.tune_decoder(copies[1])
        effects.setdefault((str(copies[0]), str(copies[1])), candidate)
    return list(effects.values())


def choose_levels(cores: int) -> list[int]:
    """How many requests are under way at once: one, then ever more than there are cores."""
    return sorted({1, cores, 2 * cores, 4 * cores})


def describe_settings(network: ModelConfig, decoder: ModelConfig) -> tuple[str, str, str, str]:
    """Instances, threads, instances of preprocess and batches of what a server runs, in words."""
    follows = FOLLOW in network.parameters and network.parameters[FOLLOW].string_value != "0"
    fixed = THREADS in network.parameters and not follows
    threads = network.parameters[THREADS].string_value if fixed else ""
    alone = list(network.dynamic_batching.preferred_batch_size) == [1]
    batches = "together" if network.HasField("dynamic_batching") and not alone else "alone"
    return (
        str(_count_instances(network)),
        threads or "by load",
        str(_count_instances(decoder)),
        batches,
    )


def _count_instances(config: ModelConfig) -> int:
    """How many instances a model has."""
    return sum(max(1, group.count) for group in config.instance_group) or 1
