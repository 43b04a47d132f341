"""Which number type the network computes in; its weights and its outputs are float32 always."""

import contextlib
from collections.abc import Iterator
from typing import Literal

import keras

NumberType = Literal["float32", "float16", "bfloat16"]
_POLICIES = {"float32": "float32", "float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}


@contextlib.contextmanager
def compute_in(number_type: NumberType) -> Iterator[None]:
    """Layers that are made inside compute in this type."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_POLICIES[number_type])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
