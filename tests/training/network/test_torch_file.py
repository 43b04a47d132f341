"""Weights that PyTorch saved, read without PyTorch."""

import io
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from training.errors import TrainingError
from training.network.torch_file import MAGIC, read_tensors


class Storage:
    def __init__(self, pid) -> None:
        self.pid = pid


class Saved:
    """A tensor as PyTorch's pickles describe it."""

    def __init__(self, key: str, array: np.ndarray, shape=None, strides=None, offset=0) -> None:
        kind = {"f": "FloatStorage", "i": "LongStorage"}[array.dtype.kind]
        self.kind = getattr(sys.modules["torch"], kind)
        self.key, self.array, self.offset = key, array, offset
        self.shape = array.shape if shape is None else shape
        steps = tuple(s // array.itemsize for s in array.strides)
        self.strides = steps if strides is None else strides

    def __reduce__(self):
        storage = Storage(("storage", self.kind, self.key, "cpu", self.array.size, None))
        rebuild = vars(sys.modules["torch._utils"])["_rebuild_tensor_v2"]
        return rebuild, (storage, self.offset, self.shape, self.strides, False, {})


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, Storage) else None


@pytest.fixture(autouse=True)
def torch(monkeypatch):
    """Names as PyTorch has them, for the pickles of this test to refer to."""
    modules = {"torch": types.ModuleType("torch"), "torch._utils": types.ModuleType("torch._utils")}
    for name in ("FloatStorage", "LongStorage", "HalfStorage"):
        kind = type(name, (), {"__module__": "torch"})
        setattr(modules["torch"], name, kind)

    def _rebuild_tensor_v2(*_):
        raise AssertionError

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    vars(modules["torch._utils"])["_rebuild_tensor_v2"] = _rebuild_tensor_v2
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def saved(path: Path, tensors: dict[str, Saved]) -> Path:
    """Write what `torch.save(state_dict, path, _use_new_zipfile_serialization=False)` writes."""
    file = io.BytesIO()
    for head in (MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}):
        pickle.dump(head, file, 2)
    Pickler(file, 2).dump(OrderedDict(tensors))
    pickle.dump([tensor.key for tensor in tensors.values()], file, 2)
    for tensor in tensors.values():
        file.write(tensor.array.size.to_bytes(8, "little") + tensor.array.tobytes())
    path.write_bytes(file.getvalue())
    return path


def test_no_tensor(tmp_path):
    assert read_tensors(saved(tmp_path / "empty.pth", {})) == {}


def test_tensors_of_any_strides(tmp_path):
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    turned = np.arange(24, dtype=np.float32)
    steps = np.array([1234], np.int64)
    path = saved(tmp_path / "weights.pth", {
        "plain": Saved("1", plain),
        "turned": Saved("2", turned, shape=(4, 2), strides=(1, 4), offset=3),
        "steps": Saved("3", steps, shape=(), strides=()),
    })  # fmt: skip
    found = read_tensors(path)
    np.testing.assert_array_equal(found["plain"], plain)
    np.testing.assert_array_equal(found["turned"], turned[3:11].reshape(2, 4).T)
    assert found["steps"] == 1234
    found["plain"][:] = 0  # memory of its own


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((7,), (1,), 0), ((2, 3), (4, 1), 0), ((2,), (1,), 5), ((2,), (-1,), 3), ((2,), (1,), -4)],
)
def test_a_tensor_beyond_its_storage(shape, strides, offset, tmp_path):
    tensor = Saved("1", np.zeros(6, np.float32), shape, strides, offset)
    path = saved(tmp_path / "weights.pth", {"plain": tensor})
    with pytest.raises(TrainingError, match="beyond its storage"):
        read_tensors(path)


def test_a_file_cut_anywhere_is_one_sentence(tmp_path):
    tensor = Saved("1", np.arange(6, dtype=np.float32))
    whole = saved(tmp_path / "weights.pth", {"a": tensor}).read_bytes()
    cut = tmp_path / "cut.pth"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(TrainingError, match=r"cut\.pth cannot be read as weights"):
            read_tensors(cut)


class Command:
    """What a hostile pickle holds."""

    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("place", ["first", "tensors"])
def test_a_pickle_that_runs_code_is_refused(place, tmp_path, capsys):
    path = tmp_path / "hostile.pth"
    if place == "first":
        path.write_bytes(pickle.dumps(Command()))
    else:
        heads: list[bytes] = [pickle.dumps(head, 2) for head in (MAGIC, 1001, "")]
        path.write_bytes(b"".join([*heads, pickle.dumps(Command())]))
    with pytest.raises(TrainingError, match=r"asks for builtins\.print"):
        read_tensors(path)
    assert capsys.readouterr().out == ""


def test_number_types_that_are_not_known(tmp_path):
    tensor = Saved("1", np.zeros(2, np.float32))
    tensor.kind = vars(sys.modules["torch"])["HalfStorage"]
    with pytest.raises(TrainingError, match=r"asks for torch\.HalfStorage"):
        read_tensors(saved(tmp_path / "half.pth", {"a": tensor}))


def test_no_file(tmp_path):
    with pytest.raises(TrainingError, match=r"none\.pth cannot be read .*No such file"):
        read_tensors(tmp_path / "none.pth")
