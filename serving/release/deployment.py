"""A task's repository together with the server over it: what changes in the one, the other loads.

Without a server only the repository changes, and nothing is confirmed.
"""

import time
from collections.abc import Callable

import numpy as np

from client.versions import NEWEST
from serving.artifact import open_session, probe_images
from serving.control import Control
from serving.errors import PublishError, first_line
from serving.model_config import make_canary_config, with_pin, with_policy
from serving.repository import Repository, State

TOLERANCE = 0.02  # between two runtimes, for the best score of each class; half precision has 0.001
INFERENCE_SECONDS = 60.0  # the first inference of a version may have to compile
UNLOAD_SECONDS = 60.0
COUNT_SECONDS = 2.0  # until an answer is counted; mostly it is at once


class Deployment:
    """A repository that is locked, and the server that serves it.

    Args:
        repository: a task's.
        control: the running server, None where there is none.
        say: takes a line for each thing worth knowing.

    Attributes:
        held: the versions that other ensembles name; they are served all the time.

    Every method raises ServingError where the repository fails, and InferenceServerException where
    the server does.
    """

    def __init__(
        self, repository: Repository, control: Control | None, say: Callable[[str], None] = print
    ) -> None:
        self.repository = repository
        self.task = repository.task
        self.control = control
        self.say = say
        self.held = repository.held()

    def serve(self, versions: frozenset[int] | None) -> None:
        """Serve these versions of the network and the ones held; None: the newest."""
        served = None if versions is None else versions | self.held
        self.repository.edit_configs(self.task.network, lambda text: with_policy(text, served))
        self.load(self.task.network)

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
        self.load(self.task.ensemble)

    def set_canary(self, state: State) -> None:
        """Have the canary's ensemble run as the state has it, or not at all."""
        store, name = self.repository.store, self.task.canary
        if state.canary is None:
            if self.control and self.repository.has_model(name):
                self.control.unload(name)
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
        self.load(name)
        self.confirm_ensemble(name, state.canary)

    def load(self, model: str) -> None:
        """Have the server load what is new of a model."""
        if self.control:
            self.control.load(model)

    def confirm_version(self, version: int) -> None:
        """An inference on this version must give what the network's file gives."""
        if self.control is None:
            return
        network = self.task.network
        if not self.control.has_version(network, str(version)):
            raise PublishError(
                f"the server did not load version {version} of {network}: does it serve "
                f"{self.repository.store.address}?"
            )
        images = self.probe_images()
        answered = self.control.infer_network(network, str(version), images, INFERENCE_SECONDS)
        expected = compute_scores(self.repository.read_network(version), images)
        difference = float(np.abs(answered.max(axis=1) - expected.max(axis=1)).max())
        if not difference <= TOLERANCE:  # not a number as well
            raise PublishError(
                f"version {version} answers on the server with scores that differ by "
                f"{difference:.3f} from those of its file, {TOLERANCE} at most expected"
            )

    def confirm_ensemble(self, ensemble: str, version: int) -> None:
        """A photo through the ensemble must be answered by this version of the network."""
        if self.control is None:
            return
        network, answered = self.task.network, self.control.answered
        earlier = answered(network, str(version))
        self.control.infer(ensemble, INFERENCE_SECONDS)
        if not wait_until(lambda: answered(network, str(version)) > earlier, COUNT_SECONDS):
            raise PublishError(f"{ensemble} answers, but not with version {version} of {network}")

    def wait_until_unloaded(self, state: State) -> None:
        """Until the versions that are served no more have finished their requests."""
        if self.control is None:
            return
        control, network = self.control, self.task.network
        wanted = {str(version) for version in state.versions | self.held}
        if not wait_until(lambda: control.versions(network, "READY", "UNLOADING") <= wanted):
            self.say(f"an old version of {network} still finishes its requests")

    def probe_images(self) -> np.ndarray:
        """Two unlike images that the network takes, uint8 [2, S, S, 3]."""
        return probe_images(self.task.signature.images)

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
