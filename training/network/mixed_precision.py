"""Which number type the network computes in; its weights and its outputs are float32 always."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import keras
import tensorflow as tf

from training.network.presets import Preset

NumberType = Literal["auto", "float32", "float16", "bfloat16"]
_POLICIES = {"float32": "float32", "float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}
_CPU_FLAGS = Path("/proc/cpuinfo")


def choose_number_type(preset: Preset) -> NumberType:
    """What this machine is fastest in: bfloat16 where the CPU computes in it, float16 on GPUs.

    On CPUs TensorFlow's gradients of depthwise convolutions take four times as long in bfloat16 as
    in float32, more than the other convolutions gain: ssd_lite0's step two thirds longer.

    """
    if tf.config.list_physical_devices("GPU"):
        return "float16"
    if preset.is_depthwise:
        return "float32"
    flags = _CPU_FLAGS.read_text().split() if _CPU_FLAGS.exists() else []  # Linux tells
    return "bfloat16" if {"avx512_bf16", "amx_bf16"}.intersection(flags) else "float32"


@contextlib.contextmanager
def compute_in(number_type: NumberType) -> Iterator[None]:
    """Layers that are made inside compute in this type."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_POLICIES[number_type])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
