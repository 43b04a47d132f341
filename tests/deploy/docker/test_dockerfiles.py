"""The Dockerfiles, built and run as far as that goes without Docker.

`build` carries out a Dockerfile's WORKDIR, COPY and RUN lines in a folder that plays the image: it
copies only what .dockerignore lets through, and runs pip in a new virtual environment. What the
base images hold, accounts and file permissions are not tried here.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Protocol

import dockerfile
import pytest
from docker.utils.build import exclude_paths
from packaging.requirements import Requirement

from serving.server.prerequisites import choose_ports
from tests.conftest import PROJECT, wait_until

TRITON = PROJECT / "deploy" / "docker" / "triton.Dockerfile"
APP = PROJECT / "deploy" / "docker" / "app.Dockerfile"
SERVING = PROJECT / "deploy" / "docker" / "serving.Dockerfile"
TRAINING = PROJECT / "deploy" / "docker" / "training.Dockerfile"
LEARNING = PROJECT / "deploy" / "docker" / "learning.Dockerfile"
DOCKERFILES = [TRITON, APP, SERVING, TRAINING, LEARNING]
FILES = pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
REQUIREMENTS = PROJECT / "deploy" / "docker" / "requirements"


class Server(Protocol):
    """The `server` fixture."""

    grpc_url: str


@dataclass
class Image:
    """What a Dockerfile makes, in a folder."""

    root: Path  # plays /
    python: Path  # of the environment that plays the image's own
    folder: Path = field(init=False)  # the working directory
    variables: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = self.root

    def inside(self, path: str) -> Path:
        """A path of the image, absolute or from its working directory, on this machine."""
        return self.root / path.lstrip("/") if path.startswith("/") else self.folder / path


def context() -> set[str]:
    """The files that .dockerignore lets through to the builder, as Docker reads it."""
    patterns = (PROJECT / ".dockerignore").read_text().splitlines()
    return set(exclude_paths(str(PROJECT), patterns))


def copy(sources: list[str], target: Path, sent: set[str]) -> None:
    """COPY: a folder's content goes into the target, a file beside the others in it."""
    for source in sources:
        files = [name for name in sent if (PROJECT / name).is_file() and is_under(name, source)]
        assert files, f"COPY {source}: nothing there that .dockerignore lets through"
        for name in files:
            place = target / (Path(name).relative_to(source) if name != source else Path(name).name)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, place)


def is_under(name: str, source: str) -> bool:
    return name == source or name.startswith(f"{source}/")


def install(image: Image, line: str) -> None:
    """RUN: only pip lines stand in these Dockerfiles.

    Two things are left out to be quicker: pip's cache may be used, nothing is compiled ahead.
    """
    program, *arguments = shlex.split(line)
    assert program in ("python", "python3")
    assert arguments[:3] == ["-m", "pip", "install"]
    assert {"--require-hashes", ":all:"} <= set(arguments)  # nothing unknown, nothing built
    arguments.remove("--no-cache-dir")
    options = ["--quiet", "--disable-pip-version-check", "--no-compile"]
    subprocess.run([image.python, *arguments, *options], cwd=image.folder, check=True, timeout=600)


def build(file: Path, root: Path) -> Image:
    """Carry out the Dockerfile in the folder `root`."""
    environment = root / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True, timeout=60)
    return carry_out(file, Image(root / "image", environment / "bin" / "python"), install)


def carry_out(file: Path, image: Image, on_run: Callable[[Image, str], None]) -> Image:
    """Carry out the Dockerfile's lines in the image's folder, its RUN lines by `on_run`."""
    sent = context()
    for line in dockerfile.parse_file(str(file)):
        match line.cmd.upper():
            case "WORKDIR":
                image.folder = image.inside(line.value[0])
                image.folder.mkdir(parents=True, exist_ok=True)
            case "COPY":
                copy(list(line.value[:-1]), image.inside(line.value[-1]), sent)
            case "RUN":
                on_run(image, line.value[0])
            case "ENV":
                image.variables |= dict(zip(line.value[::2], line.value[1::2], strict=True))
            case "ENTRYPOINT":
                image.entrypoint = list(line.value)
            case "CMD":
                image.command = list(line.value)
            case "HEALTHCHECK":
                image.healthcheck = list(line.value[1:])
    return image


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(TRITON, tmp_path_factory.mktemp("triton"))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(APP, tmp_path_factory.mktemp("app"))


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(SERVING, tmp_path_factory.mktemp("serving"))


@FILES
def test_passes_the_linter(file: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@FILES
def test_does_not_run_as_root(file: Path) -> None:
    users = [line.value[0] for line in dockerfile.parse_file(str(file)) if line.cmd == "USER"]
    assert users == ["1000:1000"]  # a number: Kubernetes' runAsNonRoot cannot judge a name


def test_context_holds_what_the_images_need_and_nothing_else() -> None:
    files = {name for name in context() if (PROJECT / name).is_file()}
    tops = {
        "app.py",
        "client",
        "demo",
        "deploy",
        "learning",
        "model_repository",
        "serving",
        "training",
    }
    assert {name.split("/")[0] for name in files} <= tops | {"samples", ".dockerignore"}
    assert not [name for name in files if ".env" in name]
    markers = {f"model_repository/{model}/1/__pycache__" for model in ("preprocess", "postprocess")}
    assert {name for name in files if "__pycache__" in name} == markers


def test_triton_image_holds_all_that_its_commands_name(triton: Image) -> None:
    for path in (triton.command[-1], triton.healthcheck[-1], "/models/ensemble/config.pbtxt"):
        assert triton.inside(path).is_file(), path


def test_triton_image_holds_every_package_its_models_import(triton: Image) -> None:
    sources = list(triton.inside("/models").glob("*/*/*.py"))
    siblings = {source.stem for source in sources}
    names = {name for source in sources for name in imports(source)}
    names -= siblings | {"triton_python_backend_utils"}  # Triton provides that one
    assert {"numpy", "cv2"} <= names
    subprocess.run([triton.python, "-c", f"import {', '.join(sorted(names))}"], check=True)


def imports(source: Path) -> Iterator[str]:
    """The top-level modules that a source file imports."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_triton_image_gets_the_pinned_versions(triton: Image) -> None:
    script = "import cv2, numpy, PIL; print(numpy.__version__, cv2.__version__, PIL.__version__)"
    command = [str(triton.python), "-c", script]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    pins = dict(line.split("==") for line in (PROJECT / "constraints.txt").read_text().split())
    opencv = pins["opencv-python-headless"].rsplit(".", 1)[0]  # its package counts builds, too
    assert found == [pins["numpy"], opencv, pins["pillow"]]


def test_pinned_versions_exist_for_the_images_python(tmp_path: Path) -> None:
    """Triton's image has Python 3.12; this machine may have another."""
    wanted = ["--python-version", "3.12", "--only-binary", ":all:", "--target", str(tmp_path)]
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet"]
    packages = ["--require-hashes", "--requirement", str(REQUIREMENTS / "triton.txt")]
    subprocess.run([*pip, *wanted, *packages], check=True, timeout=120)


@FILES
def test_base_image_may_be_given_by_digest(file: Path) -> None:
    argument, base = dockerfile.parse_file(str(file))[:2]
    name, default = argument.value[0].split("=")
    assert argument.cmd.upper() == "ARG"
    assert re.fullmatch(r"[a-z./]+:[\w.-]+", default)  # a tag, and not "latest"
    assert base.value == (f"${{{name}}}",)


@FILES
def test_packages_are_the_pinned_ones_with_hashes_and_no_address(file: Path) -> None:
    pins = set((PROJECT / "constraints.txt").read_text().split())
    text = (REQUIREMENTS / f"{file.stem}.txt").read_text()
    assert "://" not in text
    for block in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = block.split(" --hash=")
        package = Requirement(requirement)
        assert f"{package.name}{package.specifier}" in pins, "run: make hashes"
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", each) for each in hashes)


@pytest.mark.parametrize("extra", ["app", "learning", "serving", "training"])
def test_packages_are_all_that_the_extra_names(extra: str) -> None:
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = {
        requirement.name
        for requirement in map(Requirement, extras["optional-dependencies"][extra])
        if not requirement.marker or requirement.marker.evaluate({"sys_platform": "linux"})
    }
    lines = (REQUIREMENTS / f"{extra}.txt").read_text().splitlines()
    assert wanted - {"ssd-on-triton"} <= {line.split("==")[0] for line in lines}, "run: make hashes"


def run_with_the_packages_here(file: Path, folder: Path, *words: str) -> str:
    """What an image says whose packages are this environment's: TensorFlow anew takes minutes."""
    image = carry_out(file, Image(folder / "image", Path(sys.executable)), lambda *_: None)
    image.variables["PYTHONPATH"] = str(image.inside(image.variables["PYTHONPATH"]))
    program, *arguments = image.entrypoint
    assert program == "python"
    command = [str(image.python), *arguments, *words]
    done = subprocess.run(
        command, cwd=folder, env=image.variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_image_runs_from_every_folder(tmp_path: Path) -> None:
    words = ["render", "smears", "--count", "2", "--width", "64", "--height", "64"]
    run_with_the_packages_here(TRAINING, tmp_path, *words)
    assert len(list(tmp_path.glob("smears/**/*.jpg"))) == 2


def test_learning_image_knows_the_commands_of_both_rooms(tmp_path: Path) -> None:
    """The loop asks for the live version first, by a command of `serving`."""
    for name in ("first/run.json", "test.json", "inbox/JPEGImages/a", "inbox/Annotations/a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    words = "run --inbox inbox --test test.json --start first --output rounds --repository models"
    said = run_with_the_packages_here(LEARNING, tmp_path, *words.split())
    assert said == "new or changed photos: 0; a round begins with 20 (--new)\n"
    modules = {path.parent.name for path in tmp_path.glob("image/app/*/__main__.py")}
    assert modules == {"client", "learning", "serving", "training"}


def test_app_image_serves_the_page(app: Image, server: Server, tmp_path: Path) -> None:
    port = free_port()
    program, *arguments = app.command
    assert program == "python"
    assert arguments[1:] == ["--url", "triton:8001", "--host", "0.0.0.0", "--port", "7860"]
    here = ["--url", server.grpc_url, "--host", "127.0.0.1", "--port", str(port)]
    variables = {"PATH": os.defpath} | app.variables | {"TMPDIR": str(tmp_path)}
    page = subprocess.Popen([app.python, arguments[0], *here], cwd=app.folder, env=variables)
    try:
        wait_until(lambda: answers(port), retry=ConnectionError)
        health = [part.replace("7860", str(port)) for part in app.healthcheck[1:]]
        assert subprocess.run([app.python, *health], check=False, timeout=10).returncode == 0
    finally:
        page.terminate()
        page.wait(30)
    assert subprocess.run([app.python, *health], check=False, timeout=10).returncode == 1


def test_serving_image_runs_every_command(serving: Image, tmp_path: Path) -> None:
    program, *arguments = serving.command
    assert program == "python"
    variables = {"PATH": os.defpath} | serving.variables | {"HOME": str(tmp_path)}

    def run(*words: str) -> str:
        command = [str(serving.python), *words]
        return subprocess.run(
            command, cwd=serving.folder, env=variables, capture_output=True, text=True, check=True
        ).stdout

    assert "publish" in run(*arguments)
    assert "envoy.yaml" in run("-m", "serving", "gateway-files", str(tmp_path / "gateway"))
    assert "ensemble in model_repository" in run(
        "-m", "serving", "releases", "--repository", "model_repository"
    )


def free_port() -> int:
    return choose_ports({"--port": ("127.0.0.1", 0)})["--port"]


def answers(port: int) -> bool:
    """Whether the page is there."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
    return True
