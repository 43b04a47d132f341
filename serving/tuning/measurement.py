"""A private server whose settings change from one measurement to the next.

It runs over a copy of the live version, under the variant's name, and is told to load the variant's
files anew for each candidate. So what is measured is what would be written.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

from tritonclient.utils import InferenceServerException

from client import Detector, DetectorError
from client.detect import files as photo_files
from client.versions import NEWEST
from serving.control import Control
from serving.errors import TuneError, first_line
from serving.model_config import parse_config, read_text, with_pin, with_policy
from serving.release.deployment import wait_until
from serving.release.private_server import make_private_folder
from serving.repository import Repository
from serving.server.server import EmbeddedServer, ServerSettings
from serving.store.address import open_store
from serving.store.base import CONFIG, Store, variant_path
from serving.tuning import candidates
from serving.tuning.candidates import AS_IS, Candidate
from serving.tuning.load_generator import Generator, Sample

WARM_UP = 0.3  # seconds of load after new processes have started
SETTLE_SECONDS = 30.0  # for old processes to end
FOREVER = 1e6  # seconds; the supervisor's own inferences would only disturb


@dataclass(frozen=True)
class Level:
    """What one candidate did under one load, all rounds together; latencies in ms."""

    concurrency: int
    throughput: float  # photos a second
    p50: float
    p99: float
    failures: int

    def meets(self, latency: float) -> bool:
        """Whether it answered everything, and 99 % within so many ms; 0: in any time."""
        return not self.failures and (not latency or self.p99 <= latency)


@dataclass
class Result:
    """What is known of a candidate."""

    candidate: Candidate
    words: tuple[str, ...] = ()  # as `candidates.describe_settings` has it
    memory: float = 0.0  # MiB
    samples: dict[int, list[Sample]] = field(default_factory=dict)  # by concurrency
    trouble: str = ""  # why it cannot be used

    def add(self, concurrency: int, sample: Sample) -> None:
        """Add a measurement."""
        self.samples.setdefault(concurrency, []).append(sample)

    def best(self, latency: float) -> Level | None:
        """The level of most throughput that meets the target, else the one that is nearest to it.

        None where it cannot be used.
        """
        if self.trouble:
            return None
        found = [level for c in sorted(self.samples) if (level := pool_samples(c, self.samples[c]))]
        meeting = [level for level in found if level.meets(latency)]
        if meeting:
            return max(meeting, key=lambda level: level.throughput)
        return min(found, key=lambda level: level.p99, default=None)


def pool_samples(concurrency: int, samples: Sequence[Sample]) -> Level | None:
    """One level of several measurements, None where too little was answered to tell."""
    latencies = sorted(ms for sample in samples for ms in sample.latencies)
    if len(latencies) < 2:
        return None
    cuts = quantiles(latencies, n=100, method="inclusive")
    seconds = sum(sample.seconds for sample in samples)
    failures = sum(sample.failures for sample in samples)
    return Level(concurrency, len(latencies) / seconds, cuts[49], cuts[98], failures)


class Bench:
    """The private server and what loads it.

    Args:
        server: runs over the repository under the name `variant`.
        control: a connection to it.
        repository: the private copy of the task whose models are tuned.
        variant: the name.
        generator: loads the server.
    """

    def __init__(
        self,
        server: EmbeddedServer,
        control: Control,
        repository: Repository,
        variant: str,
        generator: Generator,
    ) -> None:
        self._server = server
        self._control = control
        self._store = repository.store
        self._models = (repository.task.network, find_decoder(repository))
        self._variant = variant
        self._generator = generator

    def apply(self, result: Result) -> None:
        """Run with a candidate's settings, or note why that is impossible."""
        try:
            for model in write_variants(self._store, self._models, result.candidate, self._variant):
                self._control.load(model)
            network, decoder = (self._control.config(model) for model in self._models)
        except InferenceServerException as error:
            result.trouble = first_line(error)
            return
        result.words = candidates.describe_settings(network, decoder)
        wait_until(lambda: self._settled(network.name, decoder.name), SETTLE_SECONDS)
        self._generator.send_load(len(network.instance_group) + 1, WARM_UP)
        result.memory = max(result.memory, self._memory())

    def measure(self, result: Result, concurrency: int, seconds: float) -> None:
        """Add a measurement to a candidate whose settings were applied."""
        if result.trouble:
            return
        sample = self._generator.send_load(concurrency, seconds)
        result.add(concurrency, sample)
        result.memory = max(result.memory, self._memory())
        if not sample.latencies:
            result.trouble = sample.error or "no answer in time: give it longer with --seconds"

    def _settled(self, *models: str) -> bool:
        """Whether the processes of the settings before have ended."""
        found = [stub.model(models) for stub in self._server.process.stubs()]
        return all(found.count(model) <= self._control.instances(model) for model in models)

    def _memory(self) -> float:
        """MiB of the server and its models; a page that n processes share counts once in all."""
        process = self._server.process
        return sum(map(read_memory, [process.pid, *(s.pid for s in process.stubs())]))


def read_memory(pid: int) -> float:
    """A process' Pss in MiB (proc(5), smaps_rollup); 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


@contextmanager
def start_bench(repository: Repository, variant: str, photos: list[Path]) -> Iterator[Bench]:
    """A server over a copy of the live version. Photos that it refuses are printed and left out.

    Raises:
        ServingError: it does not start, or answers no photo.
    """
    with make_private_folder(way_on="") as folder:
        copy = copy_live_version(repository, folder / "models")
        write_variants(copy.store, (copy.task.network, find_decoder(copy)), AS_IS, variant)
        settings = ServerSettings(
            copy.store.address,
            model_config_name=variant,
            admin_key=secrets.token_hex(16),  # the one in the environment may be another server's
            probe_seconds=FOREVER,
        )
        with EmbeddedServer(settings) as server, server.control() as control:
            good = _keep_answered(server.grpc_url, copy.task.ensemble, photos)
            with Generator(server.grpc_url, copy.task.ensemble, good) as generator:
                yield Bench(server, control, copy, variant, generator)


def copy_live_version(repository: Repository, folder: Path) -> Repository:
    """Make a private repository of the task with its live version alone. Returns it."""
    task = repository.task
    live = task.version_folder(repository.state().live)
    others = [model for model in task.models if model != task.network]
    repository.store.fetch(folder, [f"{task.network}/{CONFIG}", live, *others])
    copy = Repository(open_store(folder), task)
    copy.edit_configs(task.network, lambda text: with_policy(text, None))
    copy.edit_configs(task.ensemble, lambda text: with_pin(text, task.network, NEWEST))
    return copy


def find_decoder(repository: Repository) -> str:
    """The model that makes `images` of photos."""
    steps = repository.config(repository.task.ensemble).ensemble_scheduling.step
    return str(next(step.model_name for step in steps if "images" in step.output_map))


def write_variants(
    store: Store, models: tuple[str, str], candidate: Candidate, variant: str
) -> list[str]:
    """Write the candidate's variant of both models. Returns the models whose file changed."""
    network, decoder = models
    changed = []
    for model, tune in ((network, candidate.tune_network), (decoder, candidate.tune_decoder)):
        config = parse_config(read_text(store, f"{model}/{CONFIG}"))
        tune(config)
        path, text = f"{model}/{variant_path(variant)}", str(config).encode()
        if path not in store.files() or store.read(path) != text:
            store.write(path, text)
            changed.append(model)
    return changed


def _keep_answered(url: str, model: str, photos: list[Path]) -> list[Path]:
    """The photos that the server answers.

    Raises:
        TuneError: none.
    """
    good, errors = [], []
    with Detector(url, model=model) as detector:
        for photo in photos:
            try:
                detector.detect(photo)
                good.append(photo)
            except DetectorError as error:
                errors.append(f"{photo.name}: {first_line(error)}")
    if not good:
        raise TuneError(f"none of the {len(photos)} photos is answered, first {errors[0]}")
    if errors:
        print(f"{len(errors)} of {len(photos)} photos are left out, first {errors[0]}", flush=True)
    return good


def find_photos(folder: Path) -> list[Path]:
    """A folder's photos.

    Raises:
        TuneError: there is none.
    """
    found = photo_files.find_images(folder) if folder.is_dir() else []
    if not found:
        raise TuneError(f"{folder} is no folder with photos: name one with --photos")
    return found
