"""A task's repository together with the servers over it: what changes in the one, the others load.

Each step is done on all servers before the next one begins. Without a server only the repository
changes, and nothing is confirmed.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from client.versions import NEWEST
from serving.artifact import open_session, probe_images
from serving.control import Control
from serving.errors import PublishError, first_line
from serving.model_config import make_canary_config, with_pin, with_policy
from serving.release.servers import Servers, read_state
from serving.repository import Repository, State

TOLERANCE = 0.02  # between two runtimes, for the best score of each class; half precision has 0.001
INFERENCE_SECONDS = 60.0  # the first inference of a version may have to compile
UNLOAD_SECONDS = 60.0
SWITCH_SECONDS = 30.0  # to exchange an ensemble, which is milliseconds: its models are loaded
COUNT_SECONDS = 2.0  # until an answer is counted; mostly it is at once


class Deployment:
    """A repository that is locked, and the servers that serve it.

    Args:
        repository: a task's.
        servers: the running ones.
        say: takes a line for each thing worth knowing.

    Attributes:
        held: the versions that other ensembles name; they are served all the time.

    Every method raises ServingError where the repository fails, and InferenceServerException where
    a server does.
    """

    def __init__(
        self, repository: Repository, servers: Servers, say: Callable[[str], None] = print
    ) -> None:
        self.repository = repository
        self.task = repository.task
        self.servers = servers
        self.say = say
        self.held = repository.held()

    def serve(self, versions: frozenset[int] | None) -> None:
        """Serve these versions of the network and the ones held; None: the newest."""
        served = None if versions is None else versions | self.held
        self.repository.edit_configs(self.task.network, lambda text: with_policy(text, served))
        self.servers.each(lambda control: control.load(self.task.network))

    def serve_alone(self, state: State) -> None:
        """Serve this state's versions; the others finish their requests, which is waited for."""
        newest = self.repository.versions()[-1]
        follow = state.canary is None and state.live == newest and not self.held
        self.serve(None if follow else state.versions)
        self.wait_until_unloaded(state)

    def pin(self, version: int) -> None:
        """Have the ensemble use this version of the network; NEWEST: the newest that is served."""
        network = self.task.network
        self.repository.edit_configs(
            self.task.ensemble, lambda text: with_pin(text, network, version)
        )
        self._load_ensemble(self.task.ensemble)

    def set_canary(self, state: State) -> None:
        """Have the canary's ensemble run as the state has it, or not at all."""
        store, name = self.repository.store, self.task.canary
        if state.canary is None:
            self.servers.each(lambda control: control.unload(name))  # also where it is not loaded
            store.remove(name)  # what a killed publisher left of it as well
            return
        configs = {
            path.removeprefix(f"{self.task.ensemble}/"): self._make_canary_config(text, state)
            for path, text in self.repository.config_texts(self.task.ensemble).items()
        }
        if self.repository.has_model(name):
            for path, config in configs.items():
                store.write(f"{name}/{path}", config)
        else:
            store.place(name, {"1/.keep": b""} | configs)
        self._load_ensemble(name)
        self.confirm_ensemble(name, state.canary)

    def load(self) -> None:
        """Have the servers load what is new of the task."""
        self.servers.each(lambda control: control.load(self.task.network))
        self._load_ensemble(self.task.ensemble)

    def loaded(self) -> frozenset[int]:
        """The versions of the network that any of the servers has loaded."""
        found = self.servers.each(lambda control: control.versions(self.task.network, "READY"))
        return frozenset(int(version) for versions in found.values() for version in versions)

    def find_behind(self, state: State) -> list[str]:
        """Where there are several servers: the addresses of those that serve something else.

        Raises:
            PublishError: one of them serves another repository.
        """
        if len(self.servers) < 2:
            return []
        found = self.servers.each(lambda control: read_state(control, self.task))
        behind = {url: other for url, other in found.items() if other != state}
        for url, other in behind.items():
            self._check_repository(url, other)
        return list(behind)

    def confirm_version(self, version: int) -> None:
        """An inference on this version must give what the network's file gives."""
        self.servers.each(partial(self._confirm_version, version))

    def confirm_ensemble(self, ensemble: str, version: int) -> None:
        """A photo through the ensemble must be answered by this version of the network."""
        self.servers.each(partial(self._confirm_ensemble, ensemble, version))

    def _check_repository(self, url: str, found: State | None) -> None:
        """What a server serves now is a version of this repository."""
        if found is None or found.live not in self.repository.versions():
            serves = f"version {found.live}" if found else "no version"
            raise PublishError(
                f"{url} serves {serves} of {self.task.network}, which {self._address} does not "
                "hold: does it serve this repository? If it does, start it anew"
            )
        try:
            self._confirm_version(found.live, self.servers.controls[url])
        except PublishError as error:
            raise PublishError(f"{url}: {error}") from None

    def _confirm_version(self, version: int, control: Control) -> None:
        network, images = self.task.network, self.probe_images()
        if not control.has_version(network, str(version)):
            raise PublishError(
                f"the server did not load version {version} of {network}: does it serve "
                f"{self._address}?"
            )
        answered = control.infer_network(network, str(version), images, INFERENCE_SECONDS)
        expected = compute_scores(self.repository.read_network(version), images)
        difference = float(np.abs(answered.max(axis=1) - expected.max(axis=1)).max())
        if not difference <= TOLERANCE:  # not a number as well
            raise PublishError(
                f"version {version} answers on the server with scores that differ by "
                f"{difference:.3f} from those of its file, {TOLERANCE} at most expected: does it "
                f"serve {self._address}?"
            )

    def _confirm_ensemble(self, ensemble: str, version: int, control: Control) -> None:
        network, answered = self.task.network, control.answered
        earlier = answered(network, str(version))
        control.infer(ensemble, INFERENCE_SECONDS)
        if not wait_until(lambda: answered(network, str(version)) > earlier, COUNT_SECONDS):
            raise PublishError(f"{ensemble} answers, but not with version {version} of {network}")

    def wait_until_unloaded(self, state: State) -> None:
        """Until the versions that are served no more have finished their requests."""
        network, wanted = self.task.network, {str(v) for v in state.versions | self.held}

        def wait(control: Control) -> bool:
            return wait_until(lambda: control.versions(network, "READY", "UNLOADING") <= wanted)

        for url, unloaded in self.servers.each(wait).items():
            if not unloaded:
                self.say(f"{url}: an old version of {network} still finishes its requests")

    def probe_images(self) -> np.ndarray:
        """Two unlike images that the network takes, uint8 [2, S, S, 3]."""
        return probe_images(self.task.signature.images)

    @property
    def _address(self) -> str:
        return self.repository.store.address

    def _load_ensemble(self, name: str) -> None:
        self.servers.each(lambda control: control.load(name, timeout=SWITCH_SECONDS))

    def _make_canary_config(self, text: str, state: State) -> bytes:
        task, version = self.task, state.canary or NEWEST
        return make_canary_config(text, task.ensemble, task.network, version, state.share).encode()


def wait_until(holds: Callable[[], bool], seconds: float = UNLOAD_SECONDS) -> bool:
    """Ask again and again. Returns whether it came to hold in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def compute_scores(network: bytes, images: np.ndarray) -> np.ndarray:
    """The scores, float32 [B, K, C], that an ONNX file gives.

    Raises:
        PublishError: it cannot be run.
    """
    try:
        (scores,) = open_session(network).run(["scores"], {"images": images})
    except Exception as error:  # it raises many types of its own
        raise PublishError(f"its model.onnx cannot be run: {first_line(error)}") from None
    return np.asarray(scores)
