"""Moves a task from what it serves to something else, and nobody who uses it notices.

Every step leaves a repository that a server can start from and a server that answers:

1. the network serves what it serves by number, the ensemble is pinned to the live version
2. a new version folder is placed
3. the network serves the old and the new versions side by side
4. a real inference on each new version, by its number, compared with the network's file
5. the ensemble is pinned to the version that shall be live; an inference proves that it uses it
6. the canary's ensemble comes, changes or goes
7. the network serves the new versions only; the old ones finish their requests

Where there are several servers, each step is done on all of them before the next one begins. Until
step 6 has succeeded everywhere everything can be undone, and is. Versions that other ensembles name
are served all the time. The order rests on what was measured of Triton 2.51: loading a network anew
leaves versions that stay untouched; an ensemble is exchanged between two requests, within
milliseconds; but loading an ensemble first loads what has changed in its models, such as a version
folder that somebody copied in, so the network's policy goes first.
"""

import copy
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tritonclient.utils import InferenceServerException

from client.versions import NEWEST, pin_of
from serving.errors import PublishError, ServingError, StoreError, first_line
from serving.history import Record, Unfinished, read_published, write_record
from serving.release.deployment import Deployment, compute_scores
from serving.release.servers import describe_failures
from serving.repository import State
from serving.store.base import CONFIG


class Rollout:
    """The steps above, for one task.

    Args:
        deployment: the task's repository, and the servers over it.
        record: what is known of the task's releases; written as the steps go on.
    """

    def __init__(self, deployment: Deployment, record: Record) -> None:
        self.deployment = deployment
        self.repository = deployment.repository
        self.task = deployment.task
        self.record = record

    def state(self) -> State:
        """What is served: by the servers where there are any, else by the repository.

        Somebody may have copied a version in that no server has loaded yet.
        """
        state = self.repository.state()
        if state.canary is not None:
            return state
        loaded = self.deployment.loaded()
        return State(max(loaded)) if loaded and state.live not in loaded else state

    def next_number(self) -> int:
        """The number of the next version: one that was never given."""
        return max([self.record.highest, *self.repository.versions()], default=0) + 1

    def move(
        self,
        before: State,
        after: State,
        network: bytes | None = None,
        facts: dict[str, Any] | None = None,
        back: bool = False,
        why: str = "",
    ) -> None:
        """Go from one state to another, or leave everything as it was.

        Args:
            before, after: what is served and what shall be.
            network: an ONNX file to place as the version `next_number`, which `after` names.
            facts: what to record of that version.
            back: whether this is a way back, for the record.
            why: what decided, for the record; empty where a person did.

        Raises:
            PublishError: what failed; everything is as it was.
        """
        number = self.next_number() if network is not None else None
        self._check_networks(before, after, number)
        sha256 = hashlib.sha256(network or b"").hexdigest()
        unfinished = Unfinished(before, after, number, sha256, self._configs_that_change())
        with self._undone_if_it_fails(unfinished):
            self._place_load_and_confirm(before, after, number, network)
            self._record_success(unfinished, facts or {}, back, why)
        try:
            self.finish(after)
        except (ServingError, InferenceServerException) as error:
            self.deployment.say(f"{after}; the next command tidies up, now {first_line(error)}")

    def recover(self) -> None:
        """Undo or finish a release whose publisher was killed, and bring along who missed one.

        Raises:
            ServingError: the repository does not allow it.
            InferenceServerException: a server does not.
        """
        self.repository.store.clean()
        left = self.record.unfinished
        if left and left.committed:
            self.deployment.say(f"finishing a release that was interrupted: {left.after}")
            self._bring_along(left.after)
        elif left:
            self.deployment.say(f"undoing a release that was interrupted: {left.after}")
            self.deployment.say(self._undo(left))
        if behind := self.deployment.find_behind(state := self.state()):
            self.deployment.say(f"bringing along what missed a release: {', '.join(behind)}")
            configs = self._configs_that_change()
            self._note(Unfinished(state, state, None, "", configs, committed=True))
            self._bring_along(state)

    def finish(self, state: State) -> None:
        """Step 7: serve nothing but this state, and end the note of the unfinished release.

        Raises:
            ServingError: the repository does not allow it.
            InferenceServerException: a server does not; the others serve the state.
        """
        with self.deployment.servers.going_on() as lost:
            self.deployment.serve_alone(state)
            if state.canary is None:
                newest_served = max(state.versions | self.deployment.held)
                self.deployment.pin(NEWEST if state.live == newest_served else state.live)
        if lost:
            raise InferenceServerException(describe_failures(lost))
        self._note(None)

    def _bring_along(self, state: State) -> None:
        """Have all servers serve a state, whatever each serves now."""
        there = self.deployment
        there.serve(state.versions | there.loaded().intersection(self.repository.versions()))
        there.pin(state.live)
        there.set_canary(state)
        self.finish(state)

    def _check_networks(self, before: State, after: State, number: int | None) -> None:
        """What comes to be served are the published files, and run; a new one was tried."""
        for version in after.versions - before.versions - {number}:
            network = read_published(self.repository, version, self.record)
            compute_scores(network, self.deployment.probe_images())
        if after.live not in (before.live, number):  # a canary that becomes live, too
            read_published(self.repository, after.live, self.record)

    def _place_load_and_confirm(
        self, before: State, after: State, number: int | None, network: bytes | None
    ) -> None:
        """Steps 1 to 6; step 2 alone where there is no server and nothing is pinned."""
        there, task = self.deployment, self.task
        pinned = pin_of(self.repository.config(task.ensemble), task.network)
        by_steps = bool(there.servers) or before.canary or after.canary or pinned != NEWEST
        if by_steps:
            there.serve(before.versions)
            there.wait_until_unloaded(before)  # else it may keep an old one of the new number
            there.pin(before.live)
        if number is not None and network is not None:
            self.repository.place_network(number, network)
        if by_steps:
            there.serve(before.versions | after.versions)
            for version in sorted(after.versions - before.versions):
                there.confirm_version(version)
            there.pin(after.live)
            there.confirm_ensemble(task.ensemble, after.live)
            there.set_canary(after)

    @contextmanager
    def _undone_if_it_fails(self, unfinished: Unfinished) -> Iterator[None]:
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
            self.deployment.say(outcome)
            raise

    def _record_success(
        self, unfinished: Unfinished, facts: dict[str, Any], back: bool, why: str
    ) -> None:
        """Note that the new state is served and stays."""
        record = copy.deepcopy(self.record)
        if unfinished.number is not None:
            record.versions[unfinished.number] = facts
            record.highest = unfinished.number
        before, after = unfinished.before.live, unfinished.after.live
        record.becomes_live(before)
        if after != before:
            record.becomes_live(after, back)
        record.note_change(unfinished.before, unfinished.after, why)
        record.unfinished = replace(unfinished, committed=True)
        write_record(self.repository.store, self.task.ensemble, record)
        self.record = record

    def _undo(self, unfinished: Unfinished) -> str:
        """Bring the servers, then the repository, back to what they were. Returns the outcome."""
        outcome, servers = "everything is as it was", self.deployment.servers
        with servers.going_on() as lost:
            self._undo_on_the_servers(unfinished)
        if lost:
            outcome = (
                "the repository is as it was, but the server could not be brought back "
                f"({describe_failures(lost)}): see whether it runs, else start it anew"
            )
        if (placed := self._find_placed(unfinished)) is not None:
            self.repository.remove_version(placed)
        for path, text in unfinished.files.items():
            if text is not None:
                self.repository.store.write(path, text.encode())
        if self.repository.state() == unfinished.before:  # else the server served something else
            with servers.going_on():  # it was told above
                self.deployment.load()
        self._note(None)
        return outcome

    def _undo_on_the_servers(self, unfinished: Unfinished) -> None:
        """Have them serve what they served, while the new version's folder is still there."""
        before = unfinished.before
        self.deployment.serve(before.versions | self.repository.named())
        self.deployment.pin(before.live)
        self.deployment.set_canary(before)
        if unfinished.number is not None:
            self._heal(unfinished, unfinished.number)
        self.deployment.serve(before.versions)
        self.deployment.wait_until_unloaded(before)

    def _heal(self, unfinished: Unfinished, number: int) -> None:
        """Take away what a version that failed to load leaves: a server that is not ready.

        Triton forgets such a failure when a good file loads under the same number
        (triton-inference-server/server, ModelLifeCycle keeps the last state of each version).
        """
        network, servers = self.task.network, self.deployment.servers
        if not any(servers.each(lambda each: each.failed_to_load(network, number)).values()):
            return
        if self._find_placed(unfinished) is not None:
            self.repository.remove_version(number)
        elif number in self.repository.versions():
            return
        self.repository.place_network(number, self.repository.read_network(unfinished.before.live))
        self.deployment.serve(unfinished.before.versions | {number})

    def _find_placed(self, unfinished: Unfinished) -> int | None:
        """The version that the release has placed; None where it has not, or somebody copied it."""
        number = unfinished.number
        if number is None or number not in self.repository.versions():
            return None
        found = self.repository.read_network(number)
        if hashlib.sha256(found).hexdigest() == unfinished.sha256:
            return number
        healed = found == self.repository.read_network(unfinished.before.live)  # by `_heal`
        return number if healed else None

    def _configs_that_change(self) -> dict[str, str | None]:
        """The configurations that a rollout may change, as they are."""
        found: dict[str, str | None] = {f"{self.task.canary}/{CONFIG}": None}
        for model in (self.task.ensemble, self.task.network, self.task.canary):
            found.update(self.repository.config_texts(model))
        return found

    def _note(self, unfinished: Unfinished | None) -> None:
        self.record.unfinished = unfinished
        write_record(self.repository.store, self.task.ensemble, self.record)
