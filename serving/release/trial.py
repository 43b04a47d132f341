"""Tries an artifact before anything is placed, beside the version that is live.

Three trials: its network answers sensibly and depends on what it sees; it is not much slower than
the live one; and both run side by side in a private Triton, made of the repository's own models, on
an evaluation set if there is one, else on two generated photos. So what cannot be loaded, or
detects worse, never reaches the server that people use.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from serving.artifact import Artifact, open_session, probe_images
from serving.control import sample_photo
from serving.errors import CompareError, PrerequisiteError, PublishError, StartError, first_line
from serving.history import Record
from serving.release.compare import Comparison, Side, compare
from serving.release.evaluation import EvaluationSet
from serving.release.rollout import Switch
from serving.repository import TEMPLATE, State, Task, render
from serving.server.prerequisites import check_machine
from serving.server.server import EmbeddedServer, ServerSettings
from serving.server.shared_memory import Region
from serving.store.address import open_store
from serving.store.base import CONFIG, Store

RUNS = 15  # of each network, in turns
SLACK = 1e-3  # by which boxes and scores may lie outside of 0 to 1
ALONE = 0.02  # by which a score may differ where an image is not in a batch; floats differ by 1e-6
WAY_ON = "--no-private-server leaves out the trial that needs it, and mAP"


def check_sensible(artifact: Artifact) -> None:
    """Boxes and scores are in their ranges, change with the image and not with its batch.

    Raises:
        PublishError: what is not, with the worst value.
    """
    shape = artifact.signature.images
    images = np.stack([*probe_images(shape), np.full(shape, 255, np.uint8)])
    session = open_session(artifact.network.read_bytes())
    boxes, scores = answer(session, images)
    _, scores_alone = answer(session, images[1:2])
    check_boxes(boxes)
    if not (scores.min() >= -SLACK and scores.max() <= 1 + SLACK):  # not a number as well
        raise PublishError(
            f"model.onnx gives scores from {scores.min():.3g} to {scores.max():.3g}, expected "
            "0 to 1: is its softmax in the graph?"
        )
    if all((each == each[:1]).all() for each in (boxes, scores)):
        raise PublishError(
            "model.onnx gives the same boxes and scores for a black, a white and a random image: "
            "it does not look at what it is given"
        )
    change = float(np.abs(scores_alone[0].max(axis=0) - scores[1].max(axis=0)).max())
    if not change <= ALONE:
        raise PublishError(
            f"model.onnx gives an image other scores alone than in a batch of 3, by {change:.3f}: "
            "Triton makes batches of what different clients send"
        )


def check_boxes(boxes: np.ndarray) -> None:
    """Boxes are xyxy, 0 to 1; float32 [B, K, 4]."""
    if not (boxes.min() >= -SLACK and boxes.max() <= 1 + SLACK):
        raise PublishError(
            f"model.onnx gives boxes from {boxes.min():.3g} to {boxes.max():.3g}, expected 0 to 1 "
            "of the image: are they in pixels?"
        )
    sides = boxes[..., 2:] - boxes[..., :2]
    if sides.min() < -SLACK:
        raise PublishError(
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
        PublishError: it is slower by more than the factor.
    """
    image = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)
    try:
        time_live = stopwatch(live, image)
    except Exception as error:  # onnxruntime raises many types of its own
        return f"not compared, the live version does not run ({first_line(error)}); {WAY_ON}"
    time_candidate = stopwatch(candidate, image)
    laps = [(time_candidate(), time_live()) for _ in range(RUNS)]
    new, old = (min(times) for times in zip(*laps, strict=True))
    if new > slowdown * old:
        raise PublishError(
            f"the network takes {new:.1f} ms an image, the live version {old:.1f}: "
            f"{new / old:.2f} times as long, {slowdown:g} allowed (--slowdown)"
        )
    return f"{new:.1f} ms an image, the live version {old:.1f} (one thread)"


def stopwatch(network: bytes, image: np.ndarray) -> Callable[[], float]:
    """A function that runs the network once and returns the milliseconds."""
    session = open_session(network, threads=1)

    def run() -> float:
        began = time.perf_counter()
        session.run(None, {"images": image})
        return 1000 * (time.perf_counter() - began)

    run()  # the first one is slower
    return run


def answer(
    session: onnxruntime.InferenceSession, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores of a batch."""
    try:
        boxes, scores = session.run(["boxes", "scores"], {"images": images})
    except Exception as error:  # onnxruntime raises many types of its own
        raise PublishError(
            f"model.onnx fails on a batch of {len(images)}: {first_line(error)}"
        ) from None
    if not len(boxes) == len(scores) == len(images):
        raise PublishError(
            f"model.onnx gives {len(boxes)} sets of boxes and {len(scores)} of scores for a batch "
            f"of {len(images)} images"
        )
    return boxes, scores


def run_privately(
    store: Store, task: Task, live: int, artifact: Artifact, evaluation: EvaluationSet | None
) -> Comparison:
    """Both versions side by side in a Triton of our own, which leaves nothing behind.

    Raises:
        PublishError: the candidate does not load there, or fails on a photo.
        PrerequisiteError: this machine cannot run the embedded server.
    """
    with private_folder() as folder:
        copy_privately(store, task, live, artifact, folder / "models")
        photos = [] if evaluation else write_samples(folder)
        with private_server(folder / "models") as server:
            found = compare(server.grpc_url, task.ensemble, task.canary, photos, evaluation)
    if found.stable.failures:
        print(f"the live version {describe_failures(found.stable)}")
    if found.candidate.failures:
        raise PublishError(f"in a private Triton it {describe_failures(found.candidate)}")
    return found


def describe_failures(side: Side) -> str:
    """How many photos one of the two failed on, and why on the first."""
    return f"fails on {side.failures} of {side.requests} photos, first: {side.first_error}"


@contextmanager
def private_folder(way_on: str = f"; {WAY_ON}") -> Iterator[Path]:
    """A folder that goes with the context; if we are killed, with the next server's start.

    Args:
        way_on: ends the sentence about a machine that cannot run the embedded server.
    """
    try:
        check_machine()  # else there may be no /dev/shm
    except PrerequisiteError as error:
        raise PrerequisiteError(f"{error}{way_on}") from None
    region = Region()
    region.claim()
    try:
        yield region.folder
    finally:
        region.release()


@contextmanager
def private_server(repository: Path) -> Iterator[EmbeddedServer]:
    """A server of our own, and what goes wrong there as a refusal."""
    # A key of its own: the one in the environment may be another server's.
    settings = ServerSettings(repository, admin_key=secrets.token_hex(16))
    try:
        with EmbeddedServer(settings) as server:
            yield server
    except (StartError, CompareError) as error:
        raise PublishError(f"in a private Triton: {error}") from None


def start_privately(artifact: Artifact, ensemble: str) -> None:
    """A new task in a Triton of our own, which starts once a photo went through it.

    Raises:
        PublishError: it does not.
        PrerequisiteError: this machine cannot run the embedded server.
    """
    with private_folder() as folder:
        render(TEMPLATE, artifact, folder / "models", ensemble)
        with private_server(folder / "models"):
            return


def copy_privately(store: Store, task: Task, live: int, artifact: Artifact, folder: Path) -> None:
    """A repository of the task alone, with the artifact as its canary."""
    network = [f"{task.network}/{CONFIG}", task.version_folder(live)]
    others = [model for model in task.models if model != task.network]
    store.fetch(folder, [*network, *others])
    private = open_store(folder)
    with private.lock("trial"):
        switch = Switch(private, task, Record(), None)
        canary = State(live, canary=switch.next_number())
        switch.run(State(live), canary, artifact.network.read_bytes())


def write_samples(folder: Path) -> list[Path]:
    """Two generated photos."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    samples = {"disc.jpg": sample_photo(), "noise.png": bytes(cv2.imencode(".png", noise)[1])}
    for name, photo in samples.items():
        (folder / name).write_bytes(photo)
    return [folder / name for name in samples]


def check_accuracy(found: Comparison, tolerance: float) -> None:
    """The candidate's mAP@0.5 is not lower than the live version's by more than the tolerance.

    Raises:
        PublishError: it is, with both.
    """
    new, old = found.candidate.metrics, found.stable.metrics
    if new is None or old is None:
        return
    if new.map50 < old.map50 - tolerance:
        raise PublishError(
            f"mAP@0.5 is {new.map50:.3f}, {old.map50 - new.map50:.3f} lower than the live "
            f"version's {old.map50:.3f} on {new.images} photos; {tolerance:g} allowed "
            "(--map-tolerance)"
        )
