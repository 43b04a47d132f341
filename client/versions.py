"""Which version of a model the configurations of a repository serve (Triton's ModelConfig)."""

from collections.abc import Collection

from tritonclient.grpc.model_config_pb2 import ModelConfig

NEWEST = -1  # as an ensemble's model_version: the newest version that is served


def live_version(
    ensemble: ModelConfig, model: str, config: ModelConfig, folders: Collection[int]
) -> int:
    """Return the version of one of its models that an ensemble uses.

    Args:
        ensemble: the ensemble's configuration.
        model: the model's name.
        config: the model's configuration.
        folders: the numbers of its version folders, one or more.
    """
    pinned = pin_of(ensemble, model)
    return pinned if pinned > 0 else max(wanted_versions(config, folders), default=max(folders))


def pin_of(ensemble: ModelConfig, model: str) -> int:
    """Return the version of a model that an ensemble names, -1 for the newest."""
    steps = ensemble.ensemble_scheduling.step
    return next((step.model_version for step in steps if step.model_name == model), NEWEST)


def wanted_versions(config: ModelConfig, folders: Collection[int]) -> set[int]:
    """Return which of a model's versions its version_policy asks for."""
    policy = config.version_policy
    if policy.HasField("all"):
        return set(folders)
    if policy.HasField("specific"):
        return set(policy.specific.versions)
    return set(sorted(folders)[-(policy.latest.num_versions or 1) :])
