"""What a running server serves, told from what it has loaded."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tritonclient.grpc.model_config_pb2 import ModelConfig

from client.canary import SUFFIX, name_of, read_canary
from client.versions import pin_of
from serving.model_config import is_python, list_networks, takes_photos
from serving.repository import State


@dataclass(frozen=True)
class Loaded:
    """The models that a server has ready, as it says itself.

    Attributes:
        release: of Triton, such as 2.51.0.
        configs: what each runs with, by its name.
        versions: those of each that are ready.
    """

    release: str
    configs: Mapping[str, ModelConfig]
    versions: Mapping[str, Collection[int]]

    def photo_models(self) -> list[str]:
        """The ensembles that take photos, canaries among them."""
        return [name for name, config in self.configs.items() if takes_photos(config)]

    def python_models(self) -> list[str]:
        """The models that stubs run."""
        return [name for name, config in self.configs.items() if is_python(config)]

    def states(self) -> dict[tuple[str, str], State]:
        """What is served, by ensemble and its network; nothing of fusions, which have several."""
        found = {}
        for name in self.photo_models():
            config, canary = self.configs[name], self.configs.get(name_of(name))
            networks = [network for network, _ in list_networks(config)]
            network = networks[0] if len(networks) == 1 else ""
            if self.versions.get(network) and not name.endswith(SUFFIX):
                found[name, network] = read_served(config, network, self.versions[network], canary)
        return found


def read_served(
    ensemble: ModelConfig, network: str, versions: Collection[int], canary: ModelConfig | None
) -> State:
    """The live version and the canary, from what the server runs with.

    Args:
        ensemble: the stable ensemble's configuration.
        network: the model whose versions are meant.
        versions: those of it that are ready, one or more.
        canary: the canary's configuration; None: it is not loaded.
    """
    pinned = pin_of(ensemble, network)
    live = pinned if pinned > 0 else max(versions)
    parameters = canary.parameters if canary else {}
    found = read_canary(ensemble.name, {key: parameters[key].string_value for key in parameters})
    return State(live, int(found.version), found.share) if found else State(live)
