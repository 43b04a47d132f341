"""What a server says of its ensemble: which versions answer, within which limits, how fast.

    with connect("127.0.0.1:8001") as client:  # of client.server_api
        service = describe(client)
        before = totals(client)
        result = detector.detect("photo.jpg")
        times = step_times(client, before, service.answered(result.model))

A tritonclient of one's own does as well. No admin key is needed: configurations, metadata and
statistics are open, unless the server restricts them. What it does not tell is None here. The file
of the labels is not told at all; `labels` finds them in answers.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelEnsembling
from tritonclient.utils import InferenceServerException

from client import canary
from client.detector import Detector

SECONDS = 5.0  # that describing may take in all
LATE_SECONDS = 0.2  # Triton counts a request after it has answered it


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
    iou_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """Who serves, and what.

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
    untold: tuple[str, ...] = ()

    def answered(self, model: str) -> tuple[Step, ...]:
        """Return the steps of the ensemble with this name, as a Result has it in `model`."""
        known = (each for each in (self.ensemble, self.canary) if each)
        return next((each.steps for each in known if each.name == model), ())


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Where a step's time went: milliseconds per request, the mean of `requests`.

    A request that shared a batch counts with the whole batch's time. Under other traffic the mean
    is that of all requests in between, not of one's own.
    """

    model: str
    version: str
    requests: int
    queue_ms: float  # waiting
    input_ms: float  # gathering the input
    infer_ms: float  # the work itself
    output_ms: float  # handing over the output

    @property
    def total_ms(self) -> float:
        """All four."""
        return self.queue_ms + self.input_ms + self.infer_ms + self.output_ms


Totals = Mapping[Step, np.ndarray]  # int64 [5]: requests; ns waiting, and of input, infer, output
NOTHING = np.zeros(5, np.int64)


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
    questions = _Questions(seconds)
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
        untold=tuple(questions.untold),
    )


def totals(client: InferenceServerClient, seconds: float = SECONDS) -> Totals | None:
    """Return what each version of each model has counted since it was loaded, None if not told."""
    try:
        answer = client.get_inference_statistics(client_timeout=seconds)
    except InferenceServerException:
        return None
    return {
        Step(counted.name, counted.version): _numbers(counted.inference_stats)
        for counted in answer.model_stats
    }


def step_times(
    client: InferenceServerClient,
    before: Totals | None,
    steps: tuple[Step, ...],
    seconds: float = SECONDS,
) -> tuple[StepTimes, ...]:
    """Return where the time went since `before`, for the steps that have answered since.

    Args:
        client: the server that answered; another one behind the same address counts for itself.
        before: of `totals`, before one's own request; {} for all since the models were loaded.
        steps: of `Service.answered`.
        seconds: that a question to the server may take.
    """
    late = time.monotonic() + LATE_SECONDS
    while before is not None and (after := totals(client, seconds)) is not None:
        times = _times(before, after, steps)
        if len(times) == len(steps) or time.monotonic() > late:
            return times
        time.sleep(0.005)
    return ()


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


class _Questions:
    """Asks within one time for all, and keeps what went wrong."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.reached = False
        self.untold: list[str] = []

    def ask(self, call: Callable[..., Any], *arguments: str) -> Any:
        """Return the answer, None where there is none."""
        try:
            return self.answer(call, *arguments)
        except InferenceServerException as error:
            reason = ((error.message() or "").strip() or "no reason given").splitlines()[0]
            question = call.__name__.removeprefix("get_").removeprefix("is_").replace("_", " ")
            self.untold.append(f"{' '.join([question, *arguments])}: {reason[:300]}")
            return None

    def answer(self, call: Callable[..., Any], *arguments: str) -> Any:
        """Return the answer, or raise InferenceServerException."""
        left = max(self._end - time.monotonic(), 0.001)
        try:
            found = call(*arguments, client_timeout=left)
        except InferenceServerException as error:
            self.reached |= _is_servers_own(error)
            raise
        # Triton's metrics port, and other web servers, say yes to whatever is asked by HTTP.
        self.reached |= not isinstance(found, bool)
        return found


def _is_servers_own(error: InferenceServerException) -> bool:
    """Whether the server said it, not what tried to reach it."""
    status = str(error.status()).removeprefix("StatusCode.")
    elsewhere = status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN")
    return not elsewhere or "restricted" in (error.message() or "")


def _ensemble(
    client: InferenceServerClient,
    questions: _Questions,
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
    client: InferenceServerClient, questions: _Questions, step: ModelEnsembling.Step
) -> str | None:
    """Return the version that a step runs: the one that it names, or the newest that is ready."""
    if step.model_version > 0:
        return str(step.model_version)
    metadata = questions.ask(client.get_model_metadata, step.model_name)
    return max(metadata.versions, key=int, default=None) if metadata else None


def _canary(client: InferenceServerClient, questions: _Questions, model: str) -> Ensemble | None:
    try:
        config = questions.answer(client.get_model_config, canary.name_of(model)).config
    except InferenceServerException:  # there is none, most likely
        return None
    found = canary.read(model, {key: it.string_value for key, it in config.parameters.items()})
    return _ensemble(client, questions, config, found.share) if found else None


def _settings(
    client: InferenceServerClient, questions: _Questions, ensemble: ModelConfig
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
        iou_threshold=_number(float, texts.get("iou_threshold")),
    )


def _number(kind: type, text: str | None) -> Any:
    try:
        return None if text is None else kind(text)
    except ValueError:
        return None


def _input_size(dims: Any) -> tuple[int, int] | None:
    """Return height, width of the tensor `images`, whose dims are [H, W, 3]."""
    return (dims[0], dims[1]) if len(dims) == 3 else None


def _numbers(counted: Any) -> np.ndarray:
    parts = (counted.queue, counted.compute_input, counted.compute_infer, counted.compute_output)
    return np.array([counted.success.count, *(part.ns for part in parts)], np.int64)


def _times(before: Totals, after: Totals, steps: tuple[Step, ...]) -> tuple[StepTimes, ...]:
    """Return the times of the steps that have answered in between."""
    found = []
    for step in steps:
        count, *ns = (after.get(step, NOTHING) - before.get(step, NOTHING)).tolist()
        if count > 0:  # a model that was loaded anew has fewer than before
            mean = (part / count / 1e6 for part in ns)
            found.append(StepTimes(step.model, str(step.version), count, *mean))
    return tuple(found)
