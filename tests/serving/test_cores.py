"""Cores in a container, as the kernel tells them."""

from pathlib import Path

import pytest

from serving import cores
from serving.cores import cgroup_cores, usable_cores


def test_no_control_group(tmp_path: Path) -> None:
    assert cgroup_cores(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000\n", None), ("150000 100000\n", 1.5), ("junk\n", None)]
)
def test_version_2(tmp_path: Path, text: str, expected: float | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert cgroup_cores(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1\n", None), ("400000\n", 4.0)])
def test_version_1(tmp_path: Path, quota: str, expected: float | None) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_cores(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (2.9, 2), (0.5, 1), (64.0, 8)])
def test_the_smaller_one_counts(
    quota: float | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(cores, "cgroup_cores", lambda _: quota)
    assert usable_cores() == expected
