"""Limits of made-up machines and containers."""

import os
from pathlib import Path

import pytest

from frozen_vqa.pipeline.system import device


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 1,000 KiB to spare, and no control groups yet."""
    monkeypatch.setattr(device, "PROC", tmp_path / "proc")
    monkeypatch.setattr(device, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    write(tmp_path, {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 1000 kB\n"})
    return tmp_path


def test_without_control_groups_the_machine_is_free(root: Path) -> None:
    assert device.free_memory() == 1000 * 1024
    assert device.usable_cores() == 8


def test_where_nobody_tells_nothing_is_known(root: Path) -> None:
    (root / "proc/meminfo").unlink()
    assert device.free_memory() is None


def test_a_limit_of_a_group_above_holds(root: Path) -> None:
    """Version 2: the smallest of all; pages of files that nobody uses can be had."""
    write(
        root,
        {
            "proc/self/cgroup": "0::/jobs/mine\n",
            "cgroup/jobs/memory.max": "600000\n",
            "cgroup/jobs/memory.current": "500000\n",
            "cgroup/jobs/memory.stat": "anon 1\ninactive_file 70000\n",
            "cgroup/jobs/mine/memory.max": "max\n",
            "cgroup/jobs/mine/memory.current": "10\n",
            "cgroup/jobs/cpu.max": "350000 100000\n",
            "cgroup/jobs/mine/cpu.max": "max 100000\n",
        },
    )
    assert device.free_memory() == 170000
    assert device.usable_cores() == 3


def test_limits_of_version_1(root: Path) -> None:
    write(
        root,
        {
            "proc/self/cgroup": "4:memory:/mine\n2:cpu,cpuacct:/mine\n0::/\n",
            "cgroup/memory/memory.limit_in_bytes": f"{2**63 - 4096}",
            "cgroup/memory/memory.usage_in_bytes": "5",
            "cgroup/memory/mine/memory.limit_in_bytes": "4000",
            "cgroup/memory/mine/memory.usage_in_bytes": "1000",
            "cgroup/memory/mine/memory.stat": "total_inactive_file 500\n",
            "cgroup/cpu/mine/cpu.cfs_quota_us": "50000",
            "cgroup/cpu/mine/cpu.cfs_period_us": "100000",
        },
    )
    assert device.free_memory() == 3500
    assert device.usable_cores() == 1  # half a core is still one


def test_a_quota_of_minus_one_is_none(root: Path) -> None:
    write(
        root,
        {
            "proc/self/cgroup": "2:cpu:/\n",
            "cgroup/cpu/cpu.cfs_quota_us": "-1",
            "cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert device.usable_cores() == 8


def test_used_beyond_the_limit_is_nothing_free(root: Path) -> None:
    write(
        root,
        {
            "proc/self/cgroup": "0::/\n",
            "cgroup/memory.max": "100",
            "cgroup/memory.current": "200",
        },
    )
    assert device.free_memory() == 0


def test_a_broken_table_is_passed_over(root: Path) -> None:
    write(root, {"proc/self/cgroup": "\nnonsense\n", "proc/meminfo": "\nMemAvailable:\n"})
    assert device.free_memory() is None
    assert device.usable_cores() == 8
