"""What a server says of itself and of an ensemble."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelEnsembling
from tritonclient.utils import InferenceServerException

from client import canary
from client.detector import Detector
from client.service.questions import SECONDS, Questions, find_gateway


@dataclass(frozen=True, slots=True)
class Step:
    """A composing model and the version of it that answers; None: not told, or none is ready."""

    model: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Ensemble:
    """One ensemble and its steps, in their order.

    `share` is a canary's, 0 to 1 of the requests that bring a key; None for the stable ensemble.
    """

    name: str
    ready: bool | None
    steps: tuple[Step, ...]
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configurations say of requests; None: not told."""

    images: int | None = None  # in one request at most
    pixels: int | None = None  # of one image at most, width times height
    detections: int | None = None  # per image at most
    classes: int | None = None
    input_size: tuple[int, int] | None = None  # height, width that the network sees
    score_threshold: float | None = None  # where a request names none
    score_thresholds: tuple[float, ...] = ()  # of each class, in place of it; none: it
    iou_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """Who serves, and what.

    `gateway` is the name of one that stands before the servers, so that each answer may come from
    another of them; None: none says so.
    `reached` says whether anything came from the server, be it a refusal. `ensemble` is None where
    there is no such model, or it is not told; `canary` where none is on trial. `untold` has a line
    for each question that the server did not answer, and its reason.
    """

    server: str | None  # "triton"
    version: str | None  # such as "2.51.0"
    ready: bool | None
    ensemble: Ensemble | None
    canary: Ensemble | None
    settings: Settings
    reached: bool
    gateway: str | None = None
    untold: tuple[str, ...] = ()

    def answered(self, model: str) -> tuple[Step, ...]:
        """Return the steps of the ensemble with this name, as a Result has it in `model`."""
        known = (each for each in (self.ensemble, self.canary) if each)
        return next((each.steps for each in known if each.name == model), ())

    def versions(self, model: str) -> str:
        """Return the same in a line, such as "ensemble: preprocess 1, ssd 3, postprocess 1"."""
        steps = ", ".join(f"{step.model} {step.version or '?'}" for step in self.answered(model))
        return f"{model}: {steps}" if steps else model


def describe(
    client: InferenceServerClient, model: str = "ensemble", seconds: float = SECONDS
) -> Service:
    """Return what the server says of itself and of an ensemble.

    Some ten small requests, together a few milliseconds. A server that is away, hangs or restricts
    some of them makes an answer with None and a line in `untold`, never an exception.

    Args:
        client: connected to the server; stays open.
        model: the stable ensemble's name.
        seconds: how long all of it may take.
    """
    questions = Questions(seconds)
    server = questions.ask(client.get_server_metadata)
    ready = questions.ask(client.is_server_ready)
    answer = questions.ask(client.get_model_config, model)
    return Service(
        server=server.name if server else None,
        version=server.version if server else None,
        ready=ready,
        ensemble=_ensemble(client, questions, answer.config) if answer else None,
        canary=_canary(client, questions, model),
        settings=_settings(client, questions, answer.config) if answer else Settings(),
        reached=questions.reached,
        gateway=find_gateway(client, questions.deadline.left()) if questions.reached else None,
        untold=tuple(questions.untold),
    )


def labels(detector: Detector) -> dict[int, str]:
    """Return the labels by class, by a real inference that keeps even the worst boxes.

    Of many classes some may be missing: an answer holds `Settings.detections` boxes at most.

    Raises:
        DetectorError: the inference failed.
    """
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    # No two boxes of a class may overlap, so that no class fills the answer alone.
    result = detector.detect(noise, score_threshold=0.0, iou_threshold=0.0)
    found = {detection.class_id: detection.label for detection in result.detections}
    return dict(sorted(found.items()))


def _ensemble(
    client: InferenceServerClient,
    questions: Questions,
    config: ModelConfig,
    share: float | None = None,
) -> Ensemble:
    steps = tuple(
        Step(step.model_name, _version(client, questions, step))
        for step in config.ensemble_scheduling.step
    )
    ready = questions.ask(client.is_model_ready, config.name)
    return Ensemble(config.name, ready, steps, share)


def _version(
    client: InferenceServerClient, questions: Questions, step: ModelEnsembling.Step
) -> str | None:
    """Return the version that a step runs: the one that it names, or the newest that is ready."""
    if step.model_version > 0:
        return str(step.model_version)
    metadata = questions.ask(client.get_model_metadata, step.model_name)
    return max(metadata.versions, key=int, default=None) if metadata else None


def _canary(client: InferenceServerClient, questions: Questions, model: str) -> Ensemble | None:
    try:
        config = questions.answer(client.get_model_config, canary.name_of(model)).config
    except InferenceServerException:  # there is none, most likely
        return None
    found = canary.read_canary(
        model, {key: it.string_value for key, it in config.parameters.items()}
    )
    return _ensemble(client, questions, config, found.share) if found else None


def _settings(
    client: InferenceServerClient, questions: Questions, ensemble: ModelConfig
) -> Settings:
    names = [step.model_name for step in ensemble.ensemble_scheduling.step]
    answers = [questions.ask(client.get_model_config, name) for name in names]
    configs = [answer.config for answer in answers if answer]
    texts = {key: it.string_value for each in configs for key, it in each.parameters.items()}
    inputs = {tensor.name: tensor.dims for each in configs for tensor in each.input}
    outputs = {tensor.name: tensor.dims for tensor in ensemble.output}
    return Settings(
        images=ensemble.max_batch_size or None,
        pixels=_number(int, texts.get("max_pixels")),
        detections=next(iter(outputs.get("detection_boxes", ())), None),
        classes=next(reversed(inputs.get("scores", [])), None),
        input_size=_input_size(inputs.get("images", ())),
        score_threshold=_number(float, texts.get("score_threshold")),
        score_thresholds=tuple(_number(json.loads, texts.get("score_thresholds")) or ()),
        iou_threshold=_number(float, texts.get("iou_threshold")),
    )


def _number(kind: Callable[[str], Any], text: str | None) -> Any:
    try:
        return None if text is None else kind(text)
    except ValueError:
        return None


def _input_size(dims: Any) -> tuple[int, int] | None:
    """Return height, width of the tensor `images`, whose dims are [H, W, 3]."""
    return (dims[0], dims[1]) if len(dims) == 3 else None
