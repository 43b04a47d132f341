"""The examples in other languages, made ready to run once a session."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PROJECT

EXAMPLES = PROJECT / "client" / "examples"
BUILD_SECONDS = 300
NO_NETWORK = ("ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "ETIMEDOUT", "ENETUNREACH")
# The server is on this machine; a proxy is for others.
ENVIRONMENT = {name: text for name, text in os.environ.items() if not name.endswith("_proxy")}
ENVIRONMENT["NODE_NO_WARNINGS"] = "1"  # version 18 says that fetch is new

Command = list[str | Path]


def build(folder: Path, *command: str | Path) -> None:
    """Run a command that must succeed, in a folder."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def need(*tools: str) -> None:
    """Skip the test where a tool is not installed."""
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")


def node_grpc(folder: Path) -> Command:
    need("node", "npm")
    program = copied("node", folder)
    install = ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=1"]
    done = subprocess.run(
        install, cwd=folder, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    if done.returncode != 0 and any(code in done.stderr for code in NO_NETWORK):
        pytest.skip(f"npm cannot reach its registry: {done.stderr[:300]}")
    assert done.returncode == 0, done.stderr
    return ["node", program / "detect_grpc.mjs"]


def node_rest(folder: Path) -> Command:
    need("node")
    return ["node", copied("node", folder) / "detect_rest.mjs"]


def curl(folder: Path) -> Command:
    need("curl", "jq")
    return [copied("curl", folder) / "detect.sh"]


def go(folder: Path) -> Command:
    need("go")
    build(copied("go", folder), "go", "build", "-o", "detect", "detect.go")
    return [folder / "detect"]


def java(folder: Path) -> Command:
    need("java", "javac")
    build(copied("java", folder), "javac", "-Xlint:all", "-Werror", "Detect.java")
    return ["java", "-cp", folder, "Detect"]


def cpp(folder: Path) -> Command:
    need("g++")
    has_curl = 'echo "#include <curl/curl.h>" | g++ -E -x c++ - >/dev/null 2>&1'
    if subprocess.run(has_curl, shell=True, check=False).returncode:
        pytest.skip("not installed: libcurl's header files")
    flags = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "detect.cpp", "-lcurl")
    build(copied("cpp", folder), "g++", *flags, "-o", "detect")
    return [folder / "detect"]


def copied(example: str, folder: Path) -> Path:
    """Copy an example's files to a folder, where what is made of them may lie."""
    ignored = shutil.ignore_patterns("node_modules")
    shutil.copytree(EXAMPLES / example, folder, dirs_exist_ok=True, ignore=ignored)
    return folder


MAKERS: dict[str, Callable[[Path], Command]] = {
    "node, gRPC": node_grpc,
    "node, REST": node_rest,
    "curl": curl,
    "go": go,
    "java": java,
    "c++": cpp,
}


@pytest.fixture(scope="session", params=MAKERS)
def example(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Command]:
    """Each example's name, and the command that runs it."""
    folder = tmp_path_factory.mktemp("example")
    return request.param, MAKERS[request.param](folder)
