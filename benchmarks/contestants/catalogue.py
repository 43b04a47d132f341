"""The peers: how each is started in its best sensible configuration, or as its documentation shows.

All of them run in one environment of their own, made from benchmarks/peers/requirements.txt.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks import ROOT
from benchmarks.contestants.served import Target
from serving.server.tritonserver import KEPT_MEMORY

NAMES = ("FastAPI", "LitServe", "BentoML", "Ray Serve", "MLServer", "PyTriton")
MAKE_ENVIRONMENT = (
    "python3 -m venv .venv-peers && "
    ".venv-peers/bin/pip install -r benchmarks/peers/requirements.txt"
)
BODY = {"protocol": "http", "path": "/detect", "content_type": "image/jpeg"}
FORM = BODY | {"field": "file"}
GRPC = {"protocol": "grpc", "model": "detector", "tensor": "image"}


def peer(name: str, python: Path, network: Path, cores: int, documented: bool = False) -> Target:
    """How to start a peer and how to ask it.

    Args:
        name: one of NAMES.
        python: the interpreter of the peers' environment.
        network: the ONNX file.
        cores: how many workers the best configuration has.
        documented: as the peer's own documentation shows it instead.
    """
    best = not documented
    environment = {
        "PYTHONPATH": str(ROOT),
        "NETWORK": str(network),
        "STYLE": "best" if best else "documented",
        "WORKERS": str(cores),
    }
    if best:  # libraries that bring thread pools of their own leave the cores to the workers
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | KEPT_MEMORY
    environment |= SETTINGS.get(name, {})
    command = [str(python), *COMMANDS[name]]
    if name == "FastAPI" and best:
        command += ["--workers", str(cores)]
    if name == "PyTriton":  # its stubs need the libpython of the same build
        environment["LD_LIBRARY_PATH"] = _library_folder(python)
    if name == "MLServer" and best:
        environment["MLSERVER_PARALLEL_WORKERS"] = str(cores)
    ask = FORM if name == "FastAPI" and documented else ASK[name]
    return Target(name, command, ask, environment)


MODULE = "benchmarks.peers"
MLSERVER = "from mlserver.cli import main; main()"  # has no module to run with -m
COMMANDS: dict[str, Sequence[str]] = {
    "FastAPI": (
        *("-m", "uvicorn", f"{MODULE}.fastapi:app", "--host", "127.0.0.1", "--port", "{port}"),
        *("--no-access-log", "--log-level", "warning"),
    ),
    "LitServe": ("-m", f"{MODULE}.litserve", "{port}"),
    "BentoML": (
        *("-m", "bentoml", "serve", f"{MODULE}.bentoml:Detector"),
        *("--host", "127.0.0.1", "--port", "{port}"),
    ),
    "Ray Serve": ("-m", f"{MODULE}.ray", "{port}"),
    "MLServer": ("-c", MLSERVER, "start", "benchmarks/peers/mlserver_models"),
    "PyTriton": ("-m", f"{MODULE}.pytriton", "{port}", "{other}", "{third}"),
}
SETTINGS = {
    "BentoML": {"BENTOML_DO_NOT_TRACK": "True"},
    "Ray Serve": {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0"},
    "MLServer": {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_GRPC_PORT": "{port}",
        "MLSERVER_HTTP_PORT": "{other}",
        "MLSERVER_METRICS_PORT": "{third}",
        "MLSERVER_DEBUG": "false",
    },
}
ASK = {
    "FastAPI": BODY,
    "LitServe": FORM,
    "BentoML": BODY,
    "Ray Serve": BODY,
    "MLServer": GRPC,
    "PyTriton": GRPC,
}


def _library_folder(python: Path) -> str:
    """Where an interpreter's shared library lies."""
    question = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"
    done = subprocess.run([str(python), "-c", question], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def reason_for_no_peers(python: Path | None) -> str:
    """Why there are no peers, empty if there are."""
    if python is None:
        return f"no --peers-python given; to make its environment: {MAKE_ENVIRONMENT}"
    if not python.exists():
        return f"{python} does not exist; to make its environment: {MAKE_ENVIRONMENT}"
    return ""
