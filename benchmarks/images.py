"""The images, built by buildah on a stand-in for their base, and what is in them run.

    apt-get install buildah debootstrap
    python -m benchmarks.images /var/tmp/images --output benchmarks/results/images.json

As root. Where no registry of images is reached, Debian 12 by debootstrap with a Python 3.12 in
/usr/local stands in for python:3.12-slim, and for NVIDIA's image, whose tritonserver it lacks. The
Dockerfiles themselves are the real ones, every line of them. What they make is run as
compose.yaml would have it: as user 1000, who cannot become another, on a root that is read-only,
with a /tmp in memory. The network is this machine's.
"""

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import psutil
import tyro

from benchmarks import ROOT
from benchmarks.measurement.figures import show_figures
from benchmarks.measurement.machine import describe_machine
from serving.server.prerequisites import choose_ports

BASE = "stand-in/python"
IMAGES = {
    "triton": "TRITON_IMAGE",
    "serving": "PYTHON_IMAGE",
    "app": "PYTHON_IMAGE",
    "training": "PYTHON_IMAGE",
}
LIBRARIES = "ca-certificates libssl3 libffi8 libsqlite3-0 libbz2-1.0 liblzma5 libexpat1 libuuid1"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# What `buildah run` cannot do: a root that nobody writes to. $1 is the root, $2 a folder for /mnt.
CONTAINER = """
mount --bind "$1" "$1" && mount --bind "$2" "$1/mnt" && mount -o remount,bind,ro "$1"
mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev"
mount -t tmpfs -o mode=1777,size=1500m tmpfs "$1/tmp"
mount -t tmpfs -o mode=1777,size=1g tmpfs "$1/dev/shm"
root=$1; shift 2
exec setpriv --no-new-privs chroot --userspec=1000:1000 "$root" env -i "$@"
"""
SECONDS = 900.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """Build the images and run what is in them."""

    folder: tyro.conf.Positional[Path]
    """For the base and for buildah's storage: 15 GB, outside the project."""
    images: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...")] = tuple(IMAGES)
    """Which to build; the others are there from an earlier time."""
    python: Path = Path(sys.base_prefix)
    """A Python 3.12 to put into the base."""
    output: Path | None = None
    """JSON file to write the figures to."""


@dataclasses.dataclass(frozen=True)
class Builder:
    """buildah, with a storage of its own."""

    folder: Path

    def ask(self, *words: str) -> str:
        """What a command of buildah prints.

        Raises:
            SystemExit: it failed; its last lines are told.
        """
        storage = ["--root", f"{self.folder}/storage", "--runroot", f"{self.folder}/run"]
        command = ["buildah", *storage, "--storage-driver", "vfs", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"buildah {' '.join(words)}:\n" + "\n".join(done.stderr.splitlines()[-20:]))
        return done.stdout

    def build(self, name: str, file: Path, context: Path, *options: str) -> None:
        """Carry out a Dockerfile, each RUN in a chroot."""
        kept = ["--format", "docker"]  # OCI's format has no HEALTHCHECK
        where = ["--file", str(file), "--tag", name, str(context)]
        self.ask("bud", "--isolation", "chroot", *kept, *options, *where)

    def describe(self, name: str) -> dict[str, Any]:
        """How an image wants to be run."""
        found = json.loads(self.ask("inspect", "--type", "image", name))
        return dict(found["Docker"]["config"])

    def measure(self, name: str) -> dict[str, int]:
        """The size of an image's files."""
        root = self.root(f"ssd-on-triton/{name}")
        done = subprocess.run(["du", "-sxm", root], capture_output=True, text=True, check=True)
        return {"mib": int(done.stdout.split()[0])}

    def root(self, name: str) -> Path:
        """The files of a container of that image."""
        return Path(self.ask("mount", self.ask("from", name).strip()).strip())


def _make_base(folder: Path, python: Path) -> None:
    """Debian 12 with that Python, which pip reaches the registry with as it does here."""
    names = LIBRARIES.replace(" ", ",")
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={names}", "bookworm", folder], check=True
    )
    unused = shutil.ignore_patterns("*.a", "test", "idlelib", "site-packages", "config-3*")
    shutil.copytree(python, folder / "usr/local", symlinks=True, dirs_exist_ok=True, ignore=unused)
    for told in (folder / "usr/local/lib/python3.12").glob("_sysconfigdata_*.py"):
        told.write_text(told.read_text().replace(str(python), "/usr/local"))
    shutil.copyfile(f"/{CERTIFICATES}", folder / CERTIFICATES)
    (folder / "etc/pip.conf").write_text(f"[global]\ncert = /{CERTIFICATES}\n")
    subprocess.run(["chroot", folder, "ldconfig"], check=True)
    subprocess.run(["chroot", folder, "python3.12", "-m", "ensurepip"], check=True)


def _build_images(builder: Builder, settings: Settings) -> dict[str, Any]:
    """Build each: how long it took and how large it is, by image, those of earlier times too."""
    base = settings.folder / "base"
    if not base.exists():
        _make_base(base, settings.python)
        scratch = settings.folder / "base.Dockerfile"
        scratch.write_text("FROM scratch\nCOPY . /\n")
        builder.build(BASE, scratch, base)
    note = settings.folder / "built.json"
    built = json.loads(note.read_text()) if note.exists() else {}
    for name in settings.images:
        begun = time.monotonic()
        file = ROOT / "deploy" / "docker" / f"{name}.Dockerfile"
        argument = f"{IMAGES[name]}=localhost/{BASE}"
        builder.build(f"ssd-on-triton/{name}", file, ROOT, "--build-arg", argument)
        built[name] = {"seconds": round(time.monotonic() - begun)} | builder.measure(name)
        print(name, built[name], flush=True)
        note.write_text(json.dumps(built))
    return built


@dataclasses.dataclass
class Containers:
    """Runs commands in the images, and keeps what came of them."""

    builder: Builder
    shared: Path  # /mnt of each
    ran: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    roots: dict[str, Path] = dataclasses.field(default_factory=dict)  # by image

    def command(self, image: str, words: list[str], folder: str | None = None) -> list[str]:
        """What runs these words in a container of that image, behind its entry point."""
        name = f"ssd-on-triton/{image}"
        wanted = self.builder.describe(name)
        assert wanted["User"] == "1000:1000"
        words = [*(wanted["Entrypoint"] or []), *(words or wanted["Cmd"])]
        if image not in self.roots:
            self.roots[image] = self.builder.root(name)
        place = [str(self.roots[image]), str(self.shared)]
        within = [f"--chdir={folder or wanted['WorkingDir']}", *wanted["Env"]]
        return ["unshare", "--mount", "sh", "-euc", CONTAINER, "container", *place, *within, *words]

    def run(self, image: str, line: str, folder: str | None = None, expect: int = 0) -> None:
        """Run a command to its end.

        Raises:
            SystemExit: its exit code is not the expected one.
        """
        command = self.command(image, shlex.split(line), folder)
        begun = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        said = done.stdout.strip() or done.stderr.strip()
        if done.returncode != expect:
            sys.exit(f"{image}: {line}: exit code {done.returncode}:\n{said[-3000:]}")
        seconds = round(time.monotonic() - begun, 1)
        told = [text for each in said.splitlines() if (text := each.strip("╭╮╰╯─│ "))]
        self.note(image, line, exit=expect, seconds=seconds, said=told[-1] if told else "")

    def note(self, image: str, line: str, **found: Any) -> None:
        """Keep what came of a command."""
        self.ran.append({"image": image, "command": line or "as it is"} | found)
        print(json.dumps(self.ran[-1]))

    @contextmanager
    def running(self, image: str, line: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command that runs until it is told to end, and what it took at its end."""
        process = subprocess.Popen(self.command(image, shlex.split(line)))
        try:
            yield process
            everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
            memory = sum(each.memory_full_info().pss for each in everyone)
            threads = sum(each.num_threads() for each in everyone)
        finally:
            process.terminate()
            code = process.wait(60)
        self.note(image, line, exit=code, threads=threads, memory_mib=round(memory / 2**20))

    def await_success(self, server: subprocess.Popen[bytes], image: str, line: str) -> None:
        """Run a command, such as a health check, until it succeeds, or the server has ended."""
        command = self.command(image, shlex.split(line))
        deadline = time.monotonic() + SECONDS
        while subprocess.run(command, capture_output=True, check=False).returncode:
            if server.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{image}: {line}: no success")
            time.sleep(1)
        self.run(image, line)


def _try_servers(containers: Containers) -> None:
    """A server that answers photos, the health check, the client, the page."""
    wanted = ("http", "grpc", "metrics", "supervisor", "page")
    ports = choose_ports(dict.fromkeys(wanted, ("127.0.0.1", 0)))
    options = " ".join(f"--{name}-port {ports[name]}" for name in wanted[:-1])
    url = f"127.0.0.1:{ports['grpc']}"
    containers.run("triton", "", expect=2)  # serve.sh without a key
    containers.run("serving", "")
    with containers.running("serving", f"python -m serving up {options}") as server:
        health = f"python3 /opt/ssd-on-triton/healthcheck.py 127.0.0.1:{ports['http']}"
        containers.await_success(server, "triton", health)
        containers.run("app", f"python -m client detect samples/smear-1.jpg --url {url}")
        page = f"python app.py --url {url} --host 127.0.0.1 --port {ports['page']}"
        with containers.running("app", page) as server:
            check = containers.builder.describe("ssd-on-triton/app")["Healthcheck"]["Test"][1:]
            words = [word.replace("7860", str(ports["page"])) for word in check]
            containers.await_success(server, "app", shlex.join(words))


def _try_training(containers: Containers) -> None:
    """From pictures to an artifact in a few steps."""
    containers.run("training", "")
    containers.run("training", "render smears --count 8 --width 320 --height 240", "/mnt")
    line = "run smears --output mine --preset ssd_compact_atss --input-size 288 --epochs 2"
    containers.run("training", line, "/mnt")
    containers.run("training", "nonsense", "/mnt", expect=2)


def main() -> None:
    """Parse, build, run, and write what came of it."""
    settings = tyro.cli(Settings)
    settings.folder.mkdir(parents=True, exist_ok=True)
    builder = Builder(settings.folder.resolve())
    machine = describe_machine()
    built = _build_images(builder, settings)
    shared = settings.folder.resolve() / "shared"
    shutil.rmtree(shared, ignore_errors=True)
    shared.mkdir()
    shutil.chown(shared, 1000, 1000)
    containers = Containers(builder, shared)
    _try_servers(containers)
    _try_training(containers)
    found = {
        "machine": machine,
        "buildah": builder.ask("--version").strip(),
        "base": "Debian 12 by debootstrap, Python 3.12 in /usr/local",
        "built": built,
        "ran": containers.ran,
    }
    show_figures(found, settings.output)


if __name__ == "__main__":
    main()
