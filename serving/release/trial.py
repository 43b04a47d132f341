"""Tries an artifact before anything is placed, beside the version that is live.

Three trials: its network answers sensibly and depends on what it sees; it is not much slower than
the live one; and both run side by side in a private Triton, made of the repository's own models, on
the evaluation sets if there are any, else on two generated photos. So what cannot be loaded, or
detects worse on one of them, never reaches the server that people use.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import tyro

from serving.artifact import Artifact, open_session, probe_images
from serving.errors import MissingFileError, PublishError, RefusedError, first_line
from serving.history import read_trained_on
from serving.release.comparison import Comparison
from serving.release.evaluation import (
    EvaluationSet,
    Metrics,
    leave_out_photos,
    read_evaluation,
)
from serving.release.private_server import WAY_ON, compare_privately
from serving.release.session import KEEP, ReleaseSettings
from serving.repository import Repository

RUNS = 15  # of each network, in turns
SLACK = 1e-3  # by which boxes and scores may lie outside of 0 to 1
ALONE = 0.02  # by which a score may differ where an image is not in a batch; floats differ by 1e-6
NO_PATH = tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: none)")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(ReleaseSettings):
    """What mAP is measured on."""

    evaluation: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, NO_PATH] = ()
    """COCO JSON of annotated photos: mAP is compared with the live version's. Given several times,
    such as for old and for new photos, it may be lower on none of them."""
    images: Annotated[Path | None, NO_PATH] = None
    """Folder of those photos, if not the JSON's own."""
    map_tolerance: float = 0.01
    """By how much mAP@0.5 may be lower than the live version's, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class TrialSettings(EvaluationSettings):
    """How an artifact is tried before it is placed."""

    slowdown: float = 1.5
    """By which factor the network may be slower than the live version's."""
    private_server: bool = True
    """Run both versions in a private Triton first; needs what `serving up` needs."""
    keep: int = KEEP
    """Versions that stay. The live one, the one before it and pinned ones stay in any case."""


def try_artifact(
    repository: Repository, live: int, artifact: Artifact, settings: TrialSettings
) -> dict[str, Any]:
    """The second and the third trial. Prints and returns what they measured, for the record.

    Raises:
        ServingError: what the artifact does not pass, or what cannot be tried.
    """
    if settings.evaluation and not settings.private_server:
        raise PublishError("--evaluation needs the private server: leave out --no-private-server")
    candidate, stable = artifact.network.read_bytes(), _read_live(repository, live)
    evaluations = read_evaluations(settings, repository.task.labels, candidate, stable)
    speed = check_speed(candidate, stable, repository.task.signature.images, settings.slowdown)
    print(f"speed: {speed}")
    if not settings.private_server:
        return {}
    print("trying it beside the live version in a private Triton", flush=True)
    found = compare_privately(repository, live, artifact, evaluations)
    if loss := find_loss(found, settings.map_tolerance):
        raise RefusedError(loss)
    return _print_accuracy(found)


def read_evaluations(
    settings: EvaluationSettings, labels: tuple[str, ...], *networks: bytes
) -> list[EvaluationSet]:
    """The evaluation sets without the photos that one of the networks was trained on.

    Raises:
        EvaluationError: one cannot be read, has other labels, or has nothing left.
    """
    evaluations = [read_evaluation(path, settings.images) for path in settings.evaluation]
    for evaluation in evaluations:
        evaluation.check_labels(labels)
    return [_leave_out_trained_on(evaluation, *networks) for evaluation in evaluations]


def _read_live(repository: Repository, live: int) -> bytes:
    """The live version's weights."""
    try:
        return repository.read_network(live)
    except MissingFileError:
        raise PublishError(
            f"version {live} is live, but {repository.store.address} does not hold it: does the "
            "server serve this repository?"
        ) from None


def _leave_out_trained_on(evaluation: EvaluationSet, *networks: bytes) -> EvaluationSet:
    kept = leave_out_photos(evaluation, set().union(*map(read_trained_on, networks)))
    before, after = len(evaluation.photos), len(kept.photos)
    if after < before:
        print(
            f"{before - after} of {before} photos are left out: one of the two was trained on them"
        )
    return kept


def _print_accuracy(found: Sequence[Comparison]) -> dict[str, Any]:
    """Print the two versions' mAP on each set. Returns it for the record, the first set's above."""
    pairs = _pair_metrics(found)
    print("".join(f"{text}\n" for text in describe_accuracy(found)), end="")
    if not pairs:
        return {}
    sets = [
        {"set": new.source, "photos": new.images, "mAP@0.5": new.map50, "live": old.map50}
        for new, old in pairs
    ]
    first = pairs[0][0]
    return {
        "mAP@0.5": first.map50,
        "mAP@[.5:.95]": first.map,
        "evaluation": {"set": first.source, "photos": first.images},
        **({"evaluations": sets} if len(sets) > 1 else {}),
    }


def _pair_metrics(found: Sequence[Comparison]) -> list[tuple[Metrics, Metrics]]:
    """The candidate's and the live version's on each set."""
    pairs = ((each.candidate.metrics, each.stable.metrics) for each in found)
    return [(new, old) for new, old in pairs if new and old]


def describe_accuracy(found: Sequence[Comparison]) -> list[str]:
    """A line for each set; several are named."""
    pairs = _pair_metrics(found)
    return [
        f"mAP@0.5 {new.map50:.3f}, the live version {old.map50:.3f}, on {new.images} photos"
        + (f" of {new.source}" if len(pairs) > 1 else "")
        for new, old in pairs
    ]


def check_sensible(artifact: Artifact) -> None:
    """Boxes and scores are in their ranges, change with the image and not with its batch.

    Raises:
        RefusedError: what is not, with the worst value.
    """
    shape = artifact.signature.images
    images = np.stack([*probe_images(shape), np.full(shape, 255, np.uint8)])
    session = open_session(artifact.network.read_bytes())
    boxes, scores = _answer(session, images)
    _, scores_alone = _answer(session, images[1:2])
    _check_boxes(boxes)
    if not (scores.min() >= -SLACK and scores.max() <= 1 + SLACK):  # not a number as well
        raise RefusedError(
            f"model.onnx gives scores from {scores.min():.3g} to {scores.max():.3g}, expected "
            "0 to 1: is its softmax in the graph?"
        )
    if all((each == each[:1]).all() for each in (boxes, scores)):
        raise RefusedError(
            "model.onnx gives the same boxes and scores for a black, a white and a random image: "
            "it does not look at what it is given"
        )
    change = float(np.abs(scores_alone[0].max(axis=0) - scores[1].max(axis=0)).max())
    if not change <= ALONE:
        raise RefusedError(
            f"model.onnx gives an image other scores alone than in a batch of 3, by {change:.3f}: "
            "Triton makes batches of what different clients send"
        )


def _check_boxes(boxes: np.ndarray) -> None:
    """Boxes are xyxy, 0 to 1; float32 [B, K, 4]."""
    if not (boxes.min() >= -SLACK and boxes.max() <= 1 + SLACK):
        raise RefusedError(
            f"model.onnx gives boxes from {boxes.min():.3g} to {boxes.max():.3g}, expected 0 to 1 "
            "of the image: are they in pixels?"
        )
    sides = boxes[..., 2:] - boxes[..., :2]
    if sides.min() < -SLACK:
        raise RefusedError(
            "model.onnx gives boxes with x2 < x1 or y2 < y1, expected x1, y1, x2, y2: "
            f"{(sides < -SLACK).any(axis=-1).sum()} of {sides[..., 0].size}, by "
            f"{-sides.min():.3g} at worst"
        )


def check_speed(candidate: bytes, live: bytes, shape: tuple[int, ...], slowdown: float) -> str:
    """The candidate's latency against the live version's, the best of several, in turns.

    The best, because what else runs on the machine can only add to it.

    Returns:
        What was measured, for a person.

    Raises:
        RefusedError: it is slower by more than the factor.
    """
    image = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)
    try:
        time_live = _make_stopwatch(live, image)
    except Exception as error:  # onnxruntime raises many types of its own
        return f"not compared, the live version does not run ({first_line(error)}); {WAY_ON}"
    time_candidate = _make_stopwatch(candidate, image)
    laps = [(time_candidate(), time_live()) for _ in range(RUNS)]
    new, old = (min(times) for times in zip(*laps, strict=True))
    if new > slowdown * old:
        raise RefusedError(
            f"the network takes {new:.1f} ms an image, the live version {old:.1f}: "
            f"{new / old:.2f} times as long, {slowdown:g} allowed (--slowdown)"
        )
    return f"{new:.1f} ms an image, the live version {old:.1f} (one thread)"


def _make_stopwatch(network: bytes, image: np.ndarray) -> Callable[[], float]:
    """A function that runs the network once and returns the milliseconds."""
    session = open_session(network, threads=1)

    def run() -> float:
        began = time.perf_counter()
        session.run(None, {"images": image})
        return 1000 * (time.perf_counter() - began)

    run()  # the first one is slower
    return run


def _answer(
    session: onnxruntime.InferenceSession, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores of a batch."""
    try:
        boxes, scores = session.run(["boxes", "scores"], {"images": images})
    except Exception as error:  # onnxruntime raises many types of its own
        raise RefusedError(
            f"model.onnx fails on a batch of {len(images)}: {first_line(error)}"
        ) from None
    if not len(boxes) == len(scores) == len(images):
        raise RefusedError(
            f"model.onnx gives {len(boxes)} sets of boxes and {len(scores)} of scores for a batch "
            f"of {len(images)} images"
        )
    return boxes, scores


def find_loss(found: Sequence[Comparison], tolerance: float) -> str:
    """Where the candidate's mAP@0.5 is lower than the live version's by more than the tolerance.

    Returns:
        The first such set with both figures, and of several sets all figures; empty: nowhere.
    """
    for new, old in _pair_metrics(found):
        if new.map50 < old.map50 - tolerance:
            told = "; ".join(describe_accuracy(found)) if len(found) > 1 else ""
            return (
                f"mAP@0.5 is {new.map50:.3f}, {old.map50 - new.map50:.3f} lower than the live "
                f"version's {old.map50:.3f} on {new.images} photos; {tolerance:g} allowed "
                f"(--map-tolerance){told and ': '}{told}"
            )
    return ""
