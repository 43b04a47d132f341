"""What a machine is fastest in. The types themselves: tests/training/test_train.py."""

from pathlib import Path

import pytest
import tensorflow as tf

from training.network import mixed_precision
from training.network.presets import SSD_COMPACT, SSD_LITE0


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f", "float32"),
        ("fpu avx512_bf16", "bfloat16"),
        ("amx_bf16 amx_tile", "bfloat16"),
        (None, "float32"),  # not Linux
    ],
)
def test_bfloat16_is_for_cpus_that_compute_in_it(
    flags: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(mixed_precision, "_CPU_FLAGS", tmp_path / "cpuinfo")
    if flags:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert mixed_precision.choose_number_type(SSD_COMPACT) == expected
    assert mixed_precision.choose_number_type(SSD_LITE0) == "float32"


def test_a_gpu_computes_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert mixed_precision.choose_number_type(SSD_LITE0) == "float16"
