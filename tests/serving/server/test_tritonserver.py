"""The wheel is found without an import, and laid out so that the server finds what it needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.server import tritonserver


def test_wheel_is_found_and_not_imported() -> None:
    wheel = tritonserver.find_wheel()
    assert wheel.executable.is_file()
    assert wheel.stub().is_file()
    assert wheel.libraries.is_dir()
    assert "pytriton" not in sys.modules


def test_backends(tmp_path: Path) -> None:
    tritonserver.assemble_backends(tritonserver.find_wheel(), tmp_path / "backends")
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {
        "backends/onnxruntime/cores.py",
        "backends/onnxruntime/model.py",
        "backends/python/libtriton_python.so",
        "backends/python/triton_python_backend_stub",
        "backends/python/triton_python_backend_utils.py",
    }


def test_stub_environment_has_our_packages_and_writes_no_caches(tmp_path: Path) -> None:
    folder = tritonserver.make_stub_environment(tmp_path / "stubs")
    program = "import sys, numpy; print(numpy.__file__, sys.prefix, sys.dont_write_bytecode)"
    command = [str(folder / "bin" / "python3"), "-I", "-c", program]
    stub = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with stub:
        assert stub.stdout
        found = stub.stdout.read().split()
    import numpy

    assert found == [numpy.__file__, str(folder), "True"]


def test_environment_puts_ours_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/already/there")
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    wheel = tritonserver.find_wheel()
    variables = tritonserver.environment(wheel, Path("/run/stubs"))
    assert variables["PATH"] == "/run/stubs/bin:/usr/bin"
    first, *_, last = variables["LD_LIBRARY_PATH"].split(":")
    assert (first, last) == (str(wheel.libraries), "/already/there")
    assert variables["MALLOC_TRIM_THRESHOLD_"] == "1"
    assert variables["MALLOC_MMAP_THRESHOLD_"] == "33554432"
    assert "LD_LIBRARY_PATH" in os.environ


def test_libpython_belongs_to_this_interpreter() -> None:
    library = tritonserver.libpython()
    assert library is not None
    assert library.name == f"libpython{tritonserver.python_version()}.so.1.0"


def test_libpython_is_not_asked_of_folders_that_cannot_be_looked_into(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where the interpreter was built in a home that the server's user may not enter."""
    unusable = "/" + "a" * 300
    monkeypatch.setattr(tritonserver.sysconfig, "get_config_var", lambda _name: unusable)
    found = tritonserver.libpython()
    assert found is None or found.is_relative_to(sys.base_prefix)
