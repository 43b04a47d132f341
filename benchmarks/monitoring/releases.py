"""What changes and breaks nothing: a worse version goes live, or smears come in another stain.

`serving drift` runs beside the fleet and judges by the last minute. Rendered smears are what is
sent, and what each version's reference was measured on.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from benchmarks import ROOT
from benchmarks.contestants.ensemble import newest_network
from benchmarks.drift import encode_photos, render_photos, stained
from benchmarks.load.steady import Steady
from benchmarks.monitoring.watched import Watched
from serving.history import Record, write_record
from serving.release.promote import RollbackSettings, rollback
from serving.release.publish import PublishSettings, publish
from serving.repository import DEFAULT_MODEL
from serving.store.address import open_store
from training.export.reference import describe_files
from training.network.onnx_network import load_onnx

SMEARS = 60  # each is sent again and again
STRENGTH = 1.6  # of the other stain
WORSE = 0.7  # by which a worse network's scores are multiplied: fewer are above the threshold
# A scrape is a judgement: ten queries, and what the store says of the live version.
SLOWLY = {"__scrape_interval__": "10s", "__scrape_timeout__": "9s"}


@dataclass(frozen=True)
class Releases:
    """A watched fleet's versions and photos.

    Attributes:
        watched: the fleet.
        worse: folder of the worse artifact.
        other: smears in another stain.
        rate: of those, a second.
    """

    watched: Watched
    worse: Path
    other: list[bytes]
    rate: float

    @contextmanager
    def worse_version(self) -> Iterator[None]:
        """Published without an evaluation set, and so past the gate; then taken back."""
        fleet = self.watched.fleet
        url = ",".join(server.grpc_url for server in fleet.servers)
        repository = self.watched.store.address
        publish(
            PublishSettings(
                artifact=self.worse,
                repository=repository,
                url=url,
                admin_key=fleet.admin_key,
                private_server=False,
                slowdown=1000.0,  # beside the load
            )
        )
        try:
            yield
        finally:
            rollback(RollbackSettings(repository=repository, url=url, admin_key=fleet.admin_key))

    def other_stain(self) -> AbstractContextManager[object]:
        """Many smears of another laboratory among the usual ones."""
        return Steady([self.watched.fleet.url], self.rate, self.other)


def render_other() -> list[bytes]:
    """Other smears, and more of the stain in all of them."""
    with stained(STRENGTH):
        return encode_photos(render_photos(SMEARS // 2, seed=1))


def write_reference(models: Path, photos: list[bytes]) -> None:
    """Let the only version of a repository have been validated on these photos."""
    network = load_onnx(newest_network(models))
    facts = {"reference": describe_files(network, photos, network.labels)}
    record = Record({1: facts}, highest=1, lived=[1])
    write_record(open_store(str(models)), DEFAULT_MODEL, record)


def write_worse(folder: Path, models: Path, photos: list[bytes]) -> None:
    """Make an artifact of a repository's network that is less sure of all that it finds.

    Its reference is what it really finds on these photos: by that nothing is amiss.
    """
    folder.mkdir()
    model = onnx.load(newest_network(models))
    [last] = [node for node in model.graph.node if "scores" in node.output]
    last.output[list(last.output).index("scores")] = "sure"
    model.graph.initializer.append(helper.make_tensor("worse", TensorProto.FLOAT, [], [WORSE]))
    model.graph.node.append(helper.make_node("Mul", ["sure", "worse"], ["scores"]))
    onnx.save(model, folder / "model.onnx")
    network = load_onnx(folder / "model.onnx")
    (folder / "labels.txt").write_text("\n".join(network.labels) + "\n")
    card = {
        "iou_threshold": network.iou_threshold,
        "voting_iou": network.voting_iou,
        "reference": describe_files(network, photos, network.labels),
    }
    (folder / "card.json").write_text(json.dumps(card))


@contextmanager
def judging(watched: Watched) -> Iterator[None]:
    """`serving drift` as a further target of the fleet's Prometheus."""
    command = [sys.executable, "-m", "serving", "drift", "--prometheus", watched.stack.url]
    command += ["--window", "60s", "--repository", watched.store.address, "--metrics-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        place = process.stdout.readline().split("/")[2]
        target = {"targets": [place], "labels": {"job": "drift", **SLOWLY}}
        (watched.stack.targets / "drift.json").write_text(json.dumps([target]))
        try:
            yield
        finally:
            process.terminate()
