"""Each trial of an artifact says what failed and by how much, and leaves nothing behind."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from serving.artifact import read_artifact
from serving.errors import PrerequisiteError, PublishError, StartError
from serving.release import private_server, trial
from serving.release.comparison import Comparison, Side
from serving.release.evaluation import Metrics
from serving.release.listing import ReleasesSettings, releases
from serving.release.publish import PublishSettings, publish
from serving.release.traffic import Traffic
from serving.server import prerequisites, shared_memory
from serving.server.process import find_stubs
from tests.conftest import PROJECT, wait_until
from tests.serving.tiny_network import constant, fail_at, network, with_tail, write_artifact

SAMPLES = sorted((PROJECT / "samples").glob("*.jpg"))
MIDDLE = (0.25, 0.25, 0.75, 0.75)
LOWER = (0.25, 0.25, 0.75, 0.56)  # 31/50 of it
AWAY = (0.8, 0.8, 0.9, 0.9)
# How bright images are, 0 to 1: the trial's noise, the photo that servers are probed with, samples.
NOISE, PROBE, SMEARS = (0.4, 0.6), (0.64, 0.68), (0.68, 0.8)


def edited(folder: Path, change: Callable[[onnx.GraphProto], None]) -> Path:
    """The artifact with something done to its graph."""
    model = onnx.load(folder / "model.onnx")
    change(model.graph)
    onnx.save(model, folder / "model.onnx")
    return folder


def blind(graph: onnx.GraphProto) -> None:
    """It does not look at its image."""
    constant(graph, "gain", np.float32(0))


def undefined_on_white(graph: onnx.GraphProto) -> None:
    """The root of a negative number."""
    constant(graph, "limit", np.float32(0.0009))
    with_tail(
        graph,
        helper.make_node("Sub", ["limit", "brightness"], ["rest"]),
        helper.make_node("Sqrt", ["rest"], ["root"]),
        helper.make_node("Add", ["plain", "root"], ["scores"]),
    )


def brightest_of_the_batch(graph: onnx.GraphProto) -> None:
    """Each image's scores depend on its neighbours'."""
    constant(graph, "more", np.float32(50))
    with_tail(
        graph,
        helper.make_node("ReduceMax", ["brightness"], ["brightest"], axes=[0]),
        helper.make_node("Mul", ["brightest", "more"], ["shine"]),
        helper.make_node("Add", ["plain", "shine"], ["scores"]),
    )


def one_for_all(graph: onnx.GraphProto) -> None:
    """It forgets the batch dimension."""
    constant(graph, "first", np.array([0]))
    constant(graph, "one", np.array([1]))
    with_tail(
        graph,
        helper.make_node("Min", ["batch", "one"], ["end"]),
        helper.make_node("Slice", ["plain", "first", "end"], ["scores"]),
    )


def failing_at(low: float, high: float) -> Callable[[onnx.GraphProto], None]:
    """Its inference fails where an image is so bright, 0 to 1."""
    return partial(fail_at, low=low, high=high)


def heavy(graph: onnx.GraphProto, products: int = 8) -> None:
    """Products of large matrices that change nothing."""
    constant(graph, "matrix", np.eye(512, dtype=np.float32))
    constant(graph, "zero", np.float32(0))
    names = [f"product{n}" for n in range(products + 1)]
    with_tail(
        graph,
        helper.make_node("ReduceMean", ["brightness"], ["shine"], keepdims=0),
        helper.make_node("Mul", ["matrix", "shine"], [names[0]]),
        *(helper.make_node("MatMul", [a, "matrix"], [b]) for a, b in pairwise(names)),
        helper.make_node("ReduceMean", [names[-1]], ["mean_product"], keepdims=0),
        helper.make_node("Mul", ["mean_product", "zero"], ["nothing"]),
        helper.make_node("Add", ["plain", "nothing"], ["scores"]),
    )


@pytest.mark.parametrize(
    ("answer", "change", "words"),
    [
        ({"box": (80.0, 60, 240, 180)}, None, "boxes from 0 to 240, expected 0 to 1 .* in pixels"),
        ({"box": (-0.5, 0, 0.5, 1)}, None, r"boxes from -0\.5 to 1, expected 0 to 1"),
        ({"box": (0.75, 0.25, 0.5, 0.75)}, None, r"x2 < x1 .*: 3 of 1200, by 0\.25 at worst"),
        ({"score": 4.0}, None, "scores from 0 to 4, expected 0 to 1: is its softmax in the graph"),
        ({"score": -0.5}, None, r"scores from -0\.5 to 0\.001, expected 0 to 1"),
        ({}, blind, "for a black, a white and a random image: it does not look at what it is"),
        ({}, undefined_on_white, "scores from nan to nan, expected 0 to 1"),
        ({}, brightest_of_the_batch, r"other scores alone than in a batch of 3, by 0\.025: Triton"),
        ({}, one_for_all, "3 sets of boxes and 1 of scores for a batch of 3 images"),
        ({}, failing_at(0.9, 1.1), r"model\.onnx fails on a batch of 3: .*indices element out"),
    ],
)  # fmt: skip
def test_network_that_makes_no_sense(
    answer: dict[str, Any],
    change: Callable[[onnx.GraphProto], None] | None,
    words: str,
    make_artifact: Callable[..., Path],
) -> None:
    folder = make_artifact(**answer)
    with pytest.raises(PublishError, match=words):
        trial.check_sensible(read_artifact(edited(folder, change) if change else folder))


def test_networks_that_make_sense(
    make_artifact: Callable[..., Path], project_repository: Path
) -> None:
    trial.check_sensible(read_artifact(make_artifact(score=0.999, box=(0, 0, 1, 1))))
    shipped = make_artifact()
    (shipped / "model.onnx").write_bytes(
        (project_repository / "ssd" / "1" / "model.onnx").read_bytes()
    )
    trial.check_sensible(read_artifact(shipped))


def test_slower_than_the_live_version(make_artifact: Callable[..., Path]) -> None:
    light = (make_artifact() / "model.onnx").read_bytes()
    slow = (edited(make_artifact(), heavy) / "model.onnx").read_bytes()
    shape = (300, 300, 3)
    words = r"takes [\d.]+ ms an image, the live version [\d.]+: [\d.]+ times as long, 1\.5 allowed"
    with pytest.raises(PublishError, match=words):
        trial.check_speed(slow, light, shape, 1.5)
    assert " ms an image, the live version " in trial.check_speed(slow, slow, shape, 1.5)
    assert " ms an image, the live version " in trial.check_speed(light, slow, shape, 1.5)


def test_live_version_that_does_not_run(make_artifact: Callable[..., Path]) -> None:
    good = (make_artifact() / "model.onnx").read_bytes()
    said = trial.check_speed(good, good[:200], (300, 300, 3), 1.5)
    assert said.startswith("not compared, the live version does not run ([ONNXRuntimeError]")
    assert "\n" not in said


def side(map50: float) -> Side:
    metrics = Metrics(map50, map50 / 2, {}, 20)
    return Side("ensemble", 20, 0, "", 1.0, 1.0, 20, metrics, Traffic(0, 0, None))


def test_accuracy_by_hand() -> None:
    found = Comparison(side(0.85), side(0.84), 1.0, 0.0)
    assert trial.find_loss([found], 0.011) == ""
    assert trial.find_loss([replace(found, candidate=side(0.9))], 0.0) == ""
    assert trial.find_loss([replace(found, stable=side(0.84))], 0.0) == ""
    words = "is 0.840, 0.010 lower than the live version's 0.850 on 20 photos; 0.005 allowed"
    assert words in trial.find_loss([found], 0.005)
    assert trial.find_loss([replace(found, stable=replace(side(1), metrics=None))], 0.0) == ""
    assert trial.find_loss([], 0.0) == ""


def test_what_is_gained_on_new_photos_does_not_pay_for_the_old_ones() -> None:
    new, old = Comparison(side(0.5), side(0.9), 0.4, 0.0), Comparison(side(0.85), side(0.8), 1, 0)
    assert trial.find_loss([new], 0.01) == ""
    loss = trial.find_loss([new, old], 0.01)
    assert loss.startswith("mAP@0.5 is 0.800, 0.050 lower than the live version's 0.850 on 20")
    assert "mAP@0.5 0.900, the live version 0.500, on 20 photos of" in loss
    assert trial.find_loss([new, old], 0.06) == ""


@pytest.fixture
def live(repository: Path) -> Path:
    """A repository whose version 1 finds one object in the middle of each photo."""
    onnx.save(network(300, 400, 3, box=MIDDLE), repository / "ssd" / "1" / "model.onnx")
    return repository


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """The sample photos with one object in the middle of each, as COCO."""
    sizes = []
    for path in SAMPLES:
        with Image.open(path) as image:
            sizes.append(image.size)
    boxes = [[width / 4, height / 4, width / 2, height / 2] for width, height in sizes]
    document = {
        "images": [{"id": n, "file_name": str(path)} for n, path in enumerate(SAMPLES)],
        "categories": [{"id": 1, "name": "RBC"}],
        "annotations": [
            {"image_id": n, "category_id": 1, "bbox": box} for n, box in enumerate(boxes)
        ],
    }
    path = tmp_path / "annotations" / "val.json"
    path.parent.mkdir()
    path.write_text(json.dumps(document))
    return path


def tried(artifact: Path, repository: Path, **settings: Any) -> None:
    """`serving publish` with the private Triton."""
    settings = {"slowdown": 1000.0, **settings}
    publish(PublishSettings(artifact=artifact, repository=str(repository), **settings))


@contextmanager
def unchanged(repository: Path, temporary: Path) -> Iterator[None]:
    """The repository and what lies beside it stay as they were, and nothing temporary is left."""
    before = contents(repository)
    yield
    assert contents(repository) == before
    assert left(temporary) == []


def left(temporary: Path) -> list[Path]:
    """What lies in a folder for temporary files, without what onnxruntime itself writes there."""
    return [path for path in temporary.iterdir() if path.name != ".ses"]


def contents(repository: Path) -> dict[str, bytes]:
    """The files of a repository, and the names of what lies beside it."""
    files = [path for path in repository.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in files} | {
        str(path): b"" for path in repository.parent.iterdir()
    }


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_lower_map_is_refused(
    live: Path, annotations: Path, make_artifact: Callable[..., Path], temporary: Path
) -> None:
    words = r"mAP@0\.5 is 0\.000, 1\.000 lower than the live version's 1\.000 on 4 photos; 0\.01 al"
    artifact = make_artifact(box=AWAY)
    with unchanged(live, temporary), pytest.raises(PublishError, match=words):
        tried(artifact, live, evaluation=(annotations,))


def test_equal_map_passes_and_is_what_releases_show(
    live: Path,
    annotations: Path,
    make_artifact: Callable[..., Path],
    temporary: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its boxes, 31/50 of the true ones, it has 1.0 at an IoU of 0.5 and 0.3 in the mean."""
    monkeypatch.setenv("TRITON_ADMIN_KEY", "a key that the private Triton could not use")
    second = annotations.with_name("new.json")
    second.write_bytes(annotations.read_bytes())
    artifact = make_artifact(box=LOWER)
    model = onnx.load(artifact / "model.onnx")
    names = [image["file_name"] for image in json.loads(annotations.read_text())["images"]]
    content = (annotations.parent / names[0]).read_bytes()
    photo = hashlib.sha256(content).hexdigest()[:12]
    trained_on = json.dumps({"complete": True, "photos": [photo]})
    metrics = '{"mAP@0.5": 0.5, "mAP@[.5:.95]": 0.4}'
    helper.set_model_props(model, {"metrics": metrics, "trained_on": trained_on})
    onnx.save(model, artifact / "model.onnx")
    tried(artifact, live, evaluation=(annotations, second))
    said = capsys.readouterr().out
    assert "mAP@0.5 1.000, the live version 1.000, on 3 photos of new.json" in said
    assert "1 of 4 photos are left out: one of the two was trained on them" in said
    assert "trying it beside the live version in a private Triton" in said
    assert "mAP@0.5 1.000, the live version 1.000, on 3 photos" in said
    facts = json.loads((live / "releases.json").read_text())["tasks"]["ensemble"]["versions"]["2"]
    assert (facts["mAP@0.5"], facts["mAP@[.5:.95]"]) == pytest.approx((1, 0.3))
    assert facts["evaluation"] == {"set": "val.json", "photos": 3}
    measured = {"photos": 3, "mAP@0.5": 1.0, "live": 1.0}
    assert facts["evaluations"] == [{"set": name, **measured} for name in ("val.json", "new.json")]
    tried(artifact, live, private_server=False)
    releases(ReleasesSettings(repository=str(live)))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert next(line for line in lines if line[:1] == ["2"])[1:6] == [
        "1.000", "0.300", "val.json,", "3", "photos",
    ]  # fmt: skip
    assert next(line for line in lines if line[:1] == ["3"])[2:5] == ["0.500", "0.400", "training"]
    assert left(temporary) == []


def test_fails_in_the_private_triton(
    live: Path, annotations: Path, make_artifact: Callable[..., Path], temporary: Path
) -> None:
    """On what the quick trials did not show it."""
    at_once = edited(make_artifact(), failing_at(*PROBE))
    words = "in a private Triton it fails on 1 of 2 photos, first: .*disc.jpg: .*indices"
    with unchanged(live, temporary), pytest.raises(PublishError, match=words):
        tried(at_once, live)
    not_here = edited(make_artifact(), failing_at(*SMEARS))
    words = "in a private Triton it fails on 4 of 4 photos, first: .*smear-1.jpg: "
    with unchanged(live, temporary), pytest.raises(PublishError, match=words):
        tried(not_here, live, evaluation=(annotations,))


def test_better_than_a_live_version_that_fails(
    live: Path, make_artifact: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = edited(make_artifact(), failing_at(*NOISE)) / "model.onnx"
    (live / "ssd" / "1" / "model.onnx").write_bytes(broken.read_bytes())
    tried(make_artifact(), live)
    said = capsys.readouterr().out
    assert "speed: not compared, the live version does not run ([ONNXRuntimeError]" in said
    assert "the live version fails on 1 of 2 photos, first: " in said
    assert "version 2 is live, before it 1" in said


def test_live_file_that_is_broken(
    live: Path,
    make_artifact: Callable[..., Path],
    temporary: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing can be compared with it; the way on is named, and works."""
    (live / "ssd" / "1" / "model.onnx").write_bytes(b"no network")
    artifact = make_artifact()
    words = "in a private Triton: tritonserver did not start"
    with unchanged(live, temporary), pytest.raises(PublishError, match=words):
        tried(artifact, live)
    assert "--no-private-server leaves out the trial that needs it" in capsys.readouterr().out
    tried(artifact, live, private_server=False)
    assert "version 2 is live, before it 1" in capsys.readouterr().out


def test_no_private_triton_here(
    live: Path,
    make_artifact: Callable[..., Path],
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find_wheel() -> None:
        raise PrerequisiteError("nvidia-pytriton is not installed")

    def start(*_: Any) -> None:
        raise StartError("tritonserver was not ready")

    artifact = make_artifact()
    with monkeypatch.context() as patches:
        patches.setattr(prerequisites, "find_wheel", find_wheel)
        words = "pytriton is not installed; --no-private-server leaves out the trial"
        with unchanged(live, temporary), pytest.raises(PrerequisiteError, match=words):
            tried(artifact, live)
    monkeypatch.setattr(private_server, "EmbeddedServer", start)
    words = "in a private Triton: tritonserver was not ready"
    with unchanged(live, temporary), pytest.raises(PublishError, match=words):
        tried(artifact, live)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_during_the_trial(number: signal.Signals, live: Path, tmp_path: Path) -> None:
    """Whether it cleans up itself or not, no server outlives it and the repository is as it was."""
    artifact = write_artifact(tmp_path / "artifact")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    before = contents(live)
    publisher = start_publisher(["publish", str(artifact), "--repository", str(live)], temporary)
    prefixes = wait_for_stubs(temporary)
    publisher.send_signal(number)
    _, said = publisher.communicate(timeout=30)
    after = contents(live)
    wait_until(lambda: not any(find_stubs(prefix) for prefix in prefixes))
    if number == signal.SIGINT:
        assert (publisher.returncode, said) == (130, "interrupted\n")
        assert after == before
        assert left(temporary) == []
        assert not [p for prefix in prefixes for p in Path("/dev/shm").glob(f"{prefix}*")]
        return
    with pytest.MonkeyPatch.context() as patches:  # what the next server does
        patches.setattr(tempfile, "tempdir", str(temporary))
        shared_memory.remove_leftovers()
    assert left(temporary) == []
    after.pop(str(live.parent / f".{live.name}.lock"))  # nobody holds it
    assert after == before


def start_publisher(arguments: Sequence[str], temporary: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "serving", *arguments, "--slowdown", "1000"],
        cwd=PROJECT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_stubs(temporary: Path) -> list[str]:
    """Until the private Triton runs Python models. Returns the prefixes of its shared memory."""
    name = shared_memory.NAME
    found: list[str] = []

    def running() -> bool:
        parts = [path.name.removeprefix(name).split("-")[0] for path in temporary.glob(f"{name}*")]
        found[:] = [f"{name}{part}-" for part in parts]
        return any(find_stubs(prefix) for prefix in found)

    wait_until(running)
    return found
