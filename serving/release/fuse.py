"""`serving fuse`: networks run side by side as one model, and their boxes are fused.

A fusion `fused` consists of the ensemble `fused` and of `fused_postprocess`, the code of
postprocess with the boxes and scores of each network; preprocess is that of the first member. It
names a version of each network, so a release of a member changes nothing of it, and never unloads
or removes what it uses. The same command gives it other versions, between two requests:

1. each network serves what it serves, and the versions that the fusion shall use
2. the fusion's models are placed and loaded, or its ensemble is exchanged
3. a photo through it must be answered by each of these versions
4. each network serves nothing that is not used any more

What fails until then is undone. A publisher that is killed leaves at most a version loaded that
nobody uses, until the next release of its task, and a postprocess, which the same command replaces.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Annotated

import tyro
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import TYPE_FP32, ModelConfig

from serving.errors import PublishError
from serving.history import read_published
from serving.model_config import list_networks, parse_config, read_config
from serving.release.deployment import compute_scores
from serving.release.new_task import check_name, check_template, read_files, take_away
from serving.release.rollout import Rollout
from serving.release.session import ReleaseSettings, lock_store, open_session
from serving.repository import Repository, list_models
from serving.store.base import CONFIG, Store

FUSION_IOU = "0.55"  # the authors' default; of 0.4 to 0.7 none was better (docs/fusion.md)
POSTPROCESS, LABELS = "_postprocess", "labels.txt"
MEMBERS = tyro.conf.arg(metavar="MEMBER", help_behavior_hint="")


@dataclass(frozen=True, kw_only=True)
class FuseSettings(ReleaseSettings):
    """Serve several networks as one model whose boxes are fused, or give it other versions."""

    members: Annotated[tuple[str, ...], tyro.conf.Positional, MEMBERS]
    """Two or more: a task's ensemble, in its live version, or ENSEMBLE:VERSION."""
    model: str = "fused"
    """What the fusion is called."""


@dataclass(frozen=True)
class Member:
    """A version of a task's network."""

    rollout: Rollout
    version: int

    @property
    def repository(self) -> Repository:
        """The task's."""
        return self.rollout.repository

    def __str__(self) -> str:
        return f"{self.rollout.task.ensemble} version {self.version}"


def fuse(settings: FuseSettings) -> None:
    """Check, place, and if a server is named load and confirm. Prints what was done.

    Raises:
        ServingError: nothing was changed.
    """
    name = settings.model
    check_name(name)
    with lock_store(settings, f"fuse {name}") as store, _open_members(store, settings) as members:
        _check_members(members)
        models = _render(members, name)
        is_new = _is_new(store, name, models)
        fusion = f"{name} fuses {' and '.join(map(str, members))}"
        with _all_served(members):
            _place_and_load(store, models, is_new, members)
            for rollout in {id(member.rollout): member.rollout for member in members}.values():
                rollout.record.note_fusion(rollout.state(), fusion)
    print(f"{fusion}, in {settings.repository}")


@contextmanager
def _open_members(store: Store, settings: FuseSettings) -> Iterator[list[Member]]:
    """The members, with one session for each task; what killed publishers left is put right."""
    named = [text.partition(":") for text in settings.members]
    rollouts: dict[str, Rollout] = {}
    with ExitStack() as stack:
        for task, _, _ in named:
            if task not in rollouts:
                own = replace(settings, model=task)
                rollouts[task] = stack.enter_context(open_session(store, own))
        yield [_make_member(rollouts[task], text) for task, _, text in named]


def _make_member(rollout: Rollout, text: str) -> Member:
    """A version of a task, the live one if the text is empty; its file is whole, and runs."""
    there = rollout.repository.versions()
    if text and text not in map(str, there):
        raise PublishError(
            f"{rollout.task.ensemble} has no version {text}, only {', '.join(map(str, there))}"
        )
    version = int(text) if text else rollout.state().live
    network = read_published(rollout.repository, version, rollout.record)
    compute_scores(network, rollout.deployment.probe_images())
    return Member(rollout, version)


def _check_members(members: Sequence[Member]) -> None:
    """There are two or more, all different, with one label list, input and resizing."""
    files = {member.rollout.task.network_file(member.version) for member in members}
    if len(files) < max(2, len(members)):
        raise PublishError(
            "a fusion needs two or more members that differ, such as two tasks, or ensemble:1 and "
            f"ensemble:2, found {', '.join(map(str, members)) or 'none'}"
        )
    first, *others = (member.rollout.task for member in members)
    for task in others:
        for what, one, other in (
            ("labels", first.labels, task.labels),
            ("input", first.signature.images, task.signature.images),
            ("resizing of photos", first.signature.resize, task.signature.resize),
        ):
            if one != other:
                raise PublishError(
                    f"the members of a fusion must have the same {what}: {first.ensemble} has "
                    f"{one}, {task.ensemble} has {other}"
                )


def _render(members: Sequence[Member], name: str) -> dict[str, dict[str, bytes]]:
    """The files of the fusion's models, the ensemble last; both are made of the first member's."""
    code = read_files(check_template() / "postprocess")
    labels = "\n".join(members[0].rollout.task.labels) + "\n"
    return {
        name + POSTPROCESS: {path: data for path, data in code.items() if path.startswith("1/")}
        | {CONFIG: _to_bytes(_make_postprocess(members, name)), LABELS: labels.encode()},
        name: {"1/.keep": b"", CONFIG: _to_bytes(_make_ensemble(members, name))},
    }


def _make_ensemble(members: Sequence[Member], name: str) -> ModelConfig:
    """An ensemble with a step for each network; tensors bear its number from the second on."""
    config = members[0].repository.config(members[0].rollout.task.ensemble)
    steps = copy.deepcopy(list(config.ensemble_scheduling.step))
    del config.ensemble_scheduling.step[:]
    config.name = name
    (network,) = (step for step in steps if "images" in step.input_map)
    (postprocess,) = (step for step in steps if "scores" in step.input_map)
    postprocess.model_name = name + POSTPROCESS
    config.ensemble_scheduling.step.extend(step for step in steps if "image" in step.input_map)
    for end, member in zip(_list_ends(members), members, strict=True):
        network.model_name, network.model_version = member.rollout.task.network, member.version
        for tensor in ("boxes", "scores"):
            network.output_map[tensor] = postprocess.input_map[tensor + end] = tensor + end
        config.ensemble_scheduling.step.append(network)
    config.ensemble_scheduling.step.append(postprocess)
    return config


def _make_postprocess(members: Sequence[Member], name: str) -> ModelConfig:
    """The first member's postprocess, with further inputs for the other networks."""
    repository = members[0].repository
    steps = repository.config(members[0].rollout.task.ensemble).ensemble_scheduling.step
    (model,) = (step.model_name for step in steps if "scores" in step.input_map)
    config = repository.config(model)
    config.name = name + POSTPROCESS
    config.parameters["fusion_iou"].string_value = FUSION_IOU
    if "score_thresholds" in config.parameters:  # of one network's scores: fused ones are others
        config.parameters["score_thresholds"].string_value = "[]"
    for end, member in [*zip(_list_ends(members), members, strict=True)][1:]:
        for tensor in ("boxes", "scores"):
            dims = getattr(member.rollout.task.signature, tensor)
            config.input.add(name=tensor + end, data_type=TYPE_FP32, dims=dims)
    return config


def _list_ends(members: Sequence[Member]) -> list[str]:
    """What the names of each network's tensors end in."""
    return ["", *(f"_{number}" for number in range(2, len(members) + 1))]


def _to_bytes(config: ModelConfig) -> bytes:
    return f"# Made by `serving fuse`.\n{text_format.MessageToString(config)}".encode()


def _is_new(store: Store, name: str, models: Mapping[str, Mapping[str, bytes]]) -> bool:
    """Whether the fusion has still to be made. One that is there takes other versions only.

    Raises:
        PublishError: the name is another model's, or the fusion's postprocess does not fit.
    """
    there, postprocess = set(list_models(store)), name + POSTPROCESS
    configs = {model: read_config(store, model) for model in models if model in there}
    for model, config in configs.items():
        if "fusion_iou" not in config.parameters and len(list_networks(config)) < 2:
            raise PublishError(
                f"{store.address} has a model {model} that is no fusion: choose another --model"
            )
    if len(configs) < len(models):
        return True  # nothing, or what was left when somebody's `fuse` was killed
    wanted = parse_config(models[postprocess][CONFIG].decode())
    labels = models[postprocess][LABELS], store.read(f"{postprocess}/{LABELS}")
    if list(configs[postprocess].input) != list(wanted.input) or labels[0] != labels[1]:
        raise PublishError(
            f"{name} in {store.address} was made for another number of networks, of boxes or for "
            "other labels: choose another --model"
        )
    return False


@contextmanager
def _all_served(members: Sequence[Member]) -> Iterator[None]:
    """Each network serves the members' versions, at the end those that ensembles name.

    Until then the tasks' ensembles name their live versions: else they would take a newer one.
    """
    rollouts = {member.rollout.task.network: member.rollout for member in members}
    for member in members:
        rollouts[member.rollout.task.network].deployment.held |= {member.version}
    try:
        for rollout in rollouts.values():
            state = rollout.state()
            rollout.deployment.pin(state.live)
            rollout.finish(state)
        yield
    finally:
        for rollout in rollouts.values():
            rollout.deployment.held = rollout.repository.held()
            rollout.finish(rollout.state())


def _place_and_load(
    store: Store, models: Mapping[str, Mapping[str, bytes]], is_new: bool, members: Sequence[Member]
) -> None:
    """Place the fusion, or exchange its ensemble, and have the servers load it; or undo that."""
    servers, name = members[0].rollout.deployment.servers, [*models][-1]
    path = f"{name}/{CONFIG}"
    before = b"" if is_new else store.read(path)
    try:
        if is_new:
            for model, files in models.items():
                store.remove(model)  # what a killed publisher left
                store.place(model, files)
        else:
            store.write(path, models[name][CONFIG])
        servers.each(lambda control: control.load(name))
        for member in members:
            member.rollout.deployment.confirm_ensemble(name, member.version)
    except BaseException:  # Ctrl-C as well
        with servers.going_on():  # the user is told what failed first
            if before:
                store.write(path, before)
                servers.each(lambda control: control.load(name))
            else:
                take_away(store, [*models], servers)
        raise
