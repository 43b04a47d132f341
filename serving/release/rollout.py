"""Moves a task from what it serves to something else, and nobody who uses it notices.

Every step leaves a repository that a server can start from and a server that answers:

1. the network serves what it serves by number, the ensemble is pinned to the live version
2. a new version folder is placed
3. the network serves the old and the new versions side by side
4. a real inference on each new version, by its number, compared with the network's file
5. the ensemble is pinned to the version that shall be live; an inference proves that it uses it
6. the canary's ensemble comes, changes or goes
7. the network serves the new versions only; the old ones finish their requests

Until step 6 has succeeded everything can be undone, and is. Versions that other ensembles name are
served all the time. The order rests on what was measured of Triton 2.51: loading a network anew
leaves versions that stay untouched; an ensemble is exchanged between two requests, within
milliseconds; but loading an ensemble first loads what has changed in its models, such as a version
folder that somebody copied in, so the network's policy goes first.
"""

import copy
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

from client.versions import NEWEST, pin_of
from serving import history
from serving.artifact import open_session, probe_images
from serving.control import Control
from serving.errors import PublishError, ServingError, StoreError, first_line
from serving.history import Record, Unfinished
from serving.repository import (
    NETWORK_FILE,
    State,
    Task,
    canary_config,
    config_files,
    held,
    models,
    read_config,
    read_config_file,
    read_state,
    read_text,
    versions,
    with_pin,
    with_policy,
)
from serving.store.base import CONFIG, Store

TOLERANCE = 0.02  # between two runtimes, for the best score of each class; half precision has 0.001
INFERENCE_SECONDS = 60.0  # the first inference of a version may have to compile
UNLOAD_SECONDS = 60.0
COUNT_SECONDS = 2.0  # until an answer is counted; mostly it is at once


class Switch:
    """The steps above, for one task of a repository.

    Args:
        store: the repository, locked.
        task: whose models are switched.
        record: what is known of its releases; written as the steps go on.
        control: the running server, None where there is none.
        say: takes a line for each thing worth knowing.
    """

    def __init__(
        self,
        store: Store,
        task: Task,
        record: Record,
        control: Control | None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.store = store
        self.task = task
        self.record = record
        self.control = control
        self.say = say
        self.held = held(store, task)

    def state(self) -> State:
        """What is served: by the server where there is one, else by the repository.

        Somebody may have copied a version in that no server has loaded yet.
        """
        state = read_state(self.store, self.task)
        if self.control is None or state.canary is not None:
            return state
        loaded = self.control.versions(self.task.network, "READY")
        if not loaded or str(state.live) in loaded:
            return state
        return State(max(map(int, loaded)))

    def run(
        self,
        before: State,
        after: State,
        network: bytes | None = None,
        facts: dict[str, Any] | None = None,
        back: bool = False,
    ) -> None:
        """Go from one state to another, or leave everything as it was.

        Args:
            before, after: what is served and what shall be.
            network: an ONNX file to place as the version `next_number`, which `after` names.
            facts: what to record of that version.
            back: whether this is a way back, for the record.

        Raises:
            PublishError: what failed; everything is as it was.
        """
        number = self.next_number() if network is not None else None
        for version in after.versions - before.versions - {number}:
            run(self._read(version), self._images())
        if after.live not in (before.live, number):  # a canary that becomes live, too
            self._read(after.live)
        sha256 = hashlib.sha256(network or b"").hexdigest()
        unfinished = Unfinished(before, after, number, sha256, self._configurations())
        with self._undoing(unfinished):
            self._forward(before, after, number, network)
            self._commit(unfinished, facts or {}, back)
        try:
            self.finish(after)
        except (ServingError, InferenceServerException) as error:
            self.say(f"{describe(after)}; the next command tidies up, now {first_line(error)}")

    def _read(self, version: int) -> bytes:
        return history.read_network(self.store, self.task, version, self.record)

    def next_number(self) -> int:
        """The number of the next version: one that was never given."""
        return max([self.record.highest, *versions(self.store, self.task)], default=0) + 1

    def recover(self) -> None:
        """Undo or finish a release whose publisher was killed.

        Raises:
            ServingError: the repository does not allow it.
            InferenceServerException: the server does not.
        """
        self.store.clean()
        if (left := self.record.unfinished) is None:
            return
        if left.committed:
            self.say(f"finishing a release that was interrupted: {describe(left.after)}")
            self.finish(left.after)
        else:
            self.say(f"undoing a release that was interrupted: {describe(left.after)}")
            self.say(self._undo(left))

    def finish(self, state: State) -> None:
        """Serve nothing but this state, and end the note of the unfinished release."""
        newest = versions(self.store, self.task)[-1]
        follow = state.canary is None and state.live == newest and not self.held
        self._serve(None if follow else state.versions)
        self._wait_until_unloaded(state)
        if state.canary is None:
            self._pin(NEWEST if state.live == max(state.versions | self.held) else state.live)
        self._note(None)

    def _forward(
        self, before: State, after: State, number: int | None, network: bytes | None
    ) -> None:
        pinned = pin_of(read_config(self.store, self.task.ensemble), self.task.network)
        by_steps = self.control or before.canary or after.canary or pinned != NEWEST
        if by_steps:
            self._serve(before.versions)
            self._wait_until_unloaded(before)  # else it may keep an old one of the new number
            self._pin(before.live)
        if number is not None and network is not None:
            self.store.place(self.task.version_folder(number), {NETWORK_FILE: network})
        if by_steps:
            self._serve(before.versions | after.versions)
            for version in sorted(after.versions - before.versions):
                self._confirm_version(version)
            self._pin(after.live)
            self._confirm_ensemble(self.task.ensemble, after.live)
            self._set_canary(after)

    @contextmanager
    def _undoing(self, unfinished: Unfinished) -> Iterator[None]:
        """Note how to undo what follows, and do so if it fails."""
        self._note(unfinished)
        try:
            yield
        except BaseException as error:  # Ctrl-C as well
            try:
                self._note(unfinished)  # a commit may have arrived although its answer did not
                outcome = self._undo(unfinished)
            except StoreError as trouble:
                raise StoreError(
                    f"{first_line(error)}. It could not be undone, the next command does so: "
                    f"{trouble}"
                ) from None
            if isinstance(error, InferenceServerException | ServingError):
                raise PublishError(f"{first_line(error)}; {outcome}") from None
            self.say(outcome)
            raise

    def _commit(self, unfinished: Unfinished, facts: dict[str, Any], back: bool) -> None:
        """Note that the new state is served and stays."""
        record = copy.deepcopy(self.record)
        if unfinished.number is not None:
            record.versions[unfinished.number] = facts
            record.highest = unfinished.number
        before, after = unfinished.before.live, unfinished.after.live
        record.becomes_live(before)
        if after != before:
            record.becomes_live(after, back)
        record.unfinished = replace(unfinished, committed=True)
        history.write(self.store, self.task.ensemble, record)
        self.record = record

    def _undo(self, unfinished: Unfinished) -> str:
        """Bring the server, then the repository, back to what they were. Returns the outcome."""
        before, number = unfinished.before, unfinished.number
        outcome = "everything is as it was"
        try:
            self._serve(before.versions | self._named())
            self._pin(before.live)
            self._set_canary(before)
            if number is not None:
                self._heal(unfinished, number)
            self._serve(before.versions)
            self._wait_until_unloaded(before)
        except InferenceServerException as error:
            outcome = (
                "the repository is as it was, but the server could not be brought back "
                f"({first_line(error)}): see whether it runs, else start it anew"
            )
        if number is not None and self._placed(unfinished, number):
            self.store.remove(self.task.version_folder(number))
        for path, text in unfinished.files.items():
            if text is not None:
                self.store.write(path, text.encode())
        if read_state(self.store, self.task) == before:  # else the server served something else
            with suppress(InferenceServerException):  # it was told above
                self._load(self.task.network)
                self._load(self.task.ensemble)
        self._note(None)
        return outcome

    def _named(self) -> set[int]:
        """The versions that the ensemble and its canary name at the moment."""
        there = models(self.store)
        names = [name for name in (self.task.ensemble, self.task.canary) if name in there]
        paths = [path for name in names for path in config_files(self.store, name)]
        configs = [read_config_file(self.store, path) for path in paths]
        return {pin_of(config, self.task.network) for config in configs} - {NEWEST}

    def _placed(self, unfinished: Unfinished, number: int) -> bool:
        """Whether this version folder is the release's, and not one copied in meanwhile."""
        if number not in versions(self.store, self.task):
            return False
        found = self.store.read(self.task.network_file(number))
        if hashlib.sha256(found).hexdigest() == unfinished.sha256:
            return True
        return found == self.store.read(self.task.network_file(unfinished.before.live))  # `_heal`'s

    def _heal(self, unfinished: Unfinished, number: int) -> None:
        """Take away what a version that failed to load leaves: a server that is not ready.

        Triton forgets such a failure when a good file loads under the same number
        (triton-inference-server/server, ModelLifeCycle keeps the last state of each version).
        """
        if self.control is None or not self.control.failed_to_load(self.task.network, number):
            return
        folder = self.task.version_folder(number)
        if self._placed(unfinished, number):
            self.store.remove(folder)
        elif number in versions(self.store, self.task):
            return
        good = self.store.read(self.task.network_file(unfinished.before.live))
        self.store.place(folder, {NETWORK_FILE: good})
        self._serve(unfinished.before.versions | {number})

    def _configurations(self) -> dict[str, str | None]:
        """The configurations that a switch may change, as they are."""
        names = (self.task.ensemble, self.task.network, self.task.canary)
        paths = [path for name in names for path in config_files(self.store, name)]
        absent = {f"{self.task.canary}/{CONFIG}": None}
        return absent | {path: read_text(self.store, path) for path in paths}

    def _note(self, unfinished: Unfinished | None) -> None:
        self.record.unfinished = unfinished
        history.write(self.store, self.task.ensemble, self.record)

    def _serve(self, served: frozenset[int] | None) -> None:
        """Have the network serve these versions and the ones held, None: the newest."""
        policy = None if served is None else served | self.held
        self._edit(self.task.network, lambda text: with_policy(text, policy))
        self._load(self.task.network)

    def _pin(self, version: int) -> None:
        """Have the ensemble use this version of the network."""
        self._edit(self.task.ensemble, lambda text: with_pin(text, self.task.network, version))
        self._load(self.task.ensemble)

    def _set_canary(self, state: State) -> None:
        """Have the canary's ensemble run as the state has it, or not at all."""
        name = self.task.canary
        if state.canary is None:
            if self.control and name in models(self.store):
                self.control.unload(name)
            self.store.remove(name)  # what a killed publisher left of it as well
            return
        configs = {}
        for path in config_files(self.store, self.task.ensemble):
            text = canary_config(read_text(self.store, path), self.task, state.canary, state.share)
            configs[path.removeprefix(f"{self.task.ensemble}/")] = text.encode()
        if name in models(self.store):
            for path, config in configs.items():
                self.store.write(f"{name}/{path}", config)
        else:
            self.store.place(name, {"1/.keep": b""} | configs)
        self._load(name)
        self._confirm_ensemble(name, state.canary)

    def _edit(self, model: str, change: Callable[[str], str]) -> None:
        """Change a model's configuration and its variants alike."""
        for path in config_files(self.store, model):
            text = read_text(self.store, path)
            if (changed := change(text)) != text:
                self.store.write(path, changed.encode())

    def _load(self, model: str) -> None:
        if self.control:
            self.control.load(model)

    def _confirm_version(self, version: int) -> None:
        """An inference on this version must give what the network's file gives."""
        if self.control is None:
            return
        if not self.control.has_version(self.task.network, str(version)):
            raise PublishError(
                f"the server did not load version {version} of {self.task.network}: does it serve "
                f"{self.store.address}?"
            )
        images = self._images()
        answered = self.control.infer_network(
            self.task.network, str(version), images, INFERENCE_SECONDS
        )
        expected = run(self.store.read(self.task.network_file(version)), images)
        difference = float(np.abs(answered.max(axis=1) - expected.max(axis=1)).max())
        if not difference <= TOLERANCE:  # not a number as well
            raise PublishError(
                f"version {version} answers on the server with scores that differ by "
                f"{difference:.3f} from those of its file, {TOLERANCE} at most expected"
            )

    def _images(self) -> np.ndarray:
        return probe_images(self.task.signature.images)

    def _confirm_ensemble(self, ensemble: str, version: int) -> None:
        """A photo through the ensemble must be answered by this version of the network."""
        if self.control is None:
            return
        network = self.task.network
        earlier = self.control.answered(network, str(version))
        self.control.infer(ensemble, INFERENCE_SECONDS)
        answered = self.control.answered
        if not wait_until(lambda: answered(network, str(version)) > earlier, COUNT_SECONDS):
            raise PublishError(f"{ensemble} answers, but not with version {version} of {network}")

    def _wait_until_unloaded(self, state: State) -> None:
        """Until the versions that are served no more have finished their requests."""
        if self.control is None:
            return
        control, network = self.control, self.task.network
        wanted = {str(version) for version in state.versions | self.held}
        if not wait_until(lambda: control.versions(network, "READY", "UNLOADING") <= wanted):
            self.say(f"an old version of {network} still finishes its requests")


def wait_until(holds: Callable[[], bool], seconds: float = UNLOAD_SECONDS) -> bool:
    """Ask again and again. Returns whether it came to hold in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def run(network: bytes, images: np.ndarray) -> np.ndarray:
    """The scores, float32 [B, K, C], that an ONNX file gives.

    Raises:
        PublishError: it cannot be run.
    """
    try:
        (scores,) = open_session(network).run(["scores"], {"images": images})
    except Exception as error:  # it raises many types of its own
        raise PublishError(f"its model.onnx cannot be run: {first_line(error)}") from None
    return np.asarray(scores)


def describe(state: State) -> str:
    """A state in words."""
    canary = f", version {state.canary} a canary for {state.share:.0%}" if state.canary else ""
    return f"version {state.live} live{canary}"
