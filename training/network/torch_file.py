"""Reads a file of weights that PyTorch saved before its version 1.6, without PyTorch.

Such a file is four pickles (a magic number, the protocol, the machine, the tensors), a fifth with
the keys of the storages, and then each storage: its length as int64, and its numbers
(torch/serialization.py, `_legacy_load`). A pickle can run any code, so the reader allows nothing
but what describes a tensor.
"""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import numpy as np

from training.errors import TrainingError

MAGIC = 0x1950A86A20F9469CFC6C
_NUMBERS = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Tensor:
    """Where a tensor's numbers lie: in a storage, from an offset on, with strides."""

    def __init__(self, storage: tuple[Any, ...], offset: int, shape: Any, strides: Any, *_: Any):
        self.dtype, self.key, self.length = storage[1], storage[2], storage[4]
        self.offset, self.shape, self.strides = offset, shape, strides

    def view(self, storage: np.ndarray) -> np.ndarray:
        """The numbers, in the tensor's shape, in memory of their own."""
        last = self.offset + sum(
            (side - 1) * step for side, step in zip(self.shape, self.strides, strict=True)
        )
        if min([self.offset, *self.shape, *self.strides]) < 0 or last >= len(storage):
            raise ValueError("a tensor reaches beyond its storage")
        steps = tuple(step * self.dtype.itemsize for step in self.strides)
        view = np.lib.stride_tricks.as_strided(storage[self.offset :], self.shape, steps)
        return view.copy()


class _Unpickler(pickle.Unpickler):
    """Knows ordered dictionaries and tensors, and refuses whatever else a pickle asks for."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _NUMBERS:
            return _NUMBERS[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        return pid


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state_dict by their names, float32 or int64.

    Raises:
        TrainingError: the file cannot be read, is damaged or is no such file.
    """
    try:
        with path.open("rb") as file:
            return _read_tensors(file)
    except (OSError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError,
            MemoryError, OverflowError, ImportError, pickle.UnpicklingError) as error:  # fmt: skip
        raise TrainingError(
            f"{path} cannot be read as weights that PyTorch saved ({error}): download it again"
        ) from None


def _read_tensors(file: IO[bytes]) -> dict[str, np.ndarray]:
    if _Unpickler(file).load() != MAGIC:
        raise ValueError("it does not begin as one")
    for _ in ("protocol", "machine"):
        _Unpickler(file).load()
    tensors: dict[str, _Tensor] = _Unpickler(file).load()
    lengths = {tensor.key: (tensor.dtype, tensor.length) for tensor in tensors.values()}
    storages = {}
    for key in _Unpickler(file).load():
        dtype, length = lengths[key]
        if int.from_bytes(file.read(8), "little") != length:
            raise ValueError("a storage has another length than its tensor says")
        storages[key] = np.frombuffer(file.read(length * dtype.itemsize), dtype, length)
    return {name: tensor.view(storages[tensor.key]) for name, tensor in tensors.items()}
