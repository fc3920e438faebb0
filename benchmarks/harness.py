"""The parts that all benchmarks share: fresh processes, rounds in random order, tables and JSON.

A measurement is a module that prints one JSON object as its last line of stdout. It runs in a
process of its own, so that it shares no allocator, cache or thread pool with another one. It runs
once a round, in an order drawn anew, so that other work on the machine affects all alike.
"""

import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from frozen_vqa.cache.memory import aligned_empty
from frozen_vqa.pipeline.system.console import console

Json = dict[str, Any]

ROOT = Path(__file__).parents[1]
"""The checkout, which a fresh process imports from."""

LOOK_SECONDS = 0.02
"""Between two looks at the memory of a process."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class MeasurementError(Exception):
    """A measurement's process failed or printed no JSON."""


def usable_cores() -> int:
    """Return what `pipeline.system.device` says; imported late, because torch takes memory."""
    from frozen_vqa.pipeline.system import device

    return device.usable_cores()


def machine() -> Json:
    """Return what the numbers were measured on, and how busy it was."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu(),
        "cores": usable_cores(),
        "memory_gb": round(memory / 1e9, 1),
        "gpu": _gpu(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "h5py", "numpy")},
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpu() -> str | None:
    if not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    return found.stdout.strip().replace("\n", ", ") or None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def fresh(
    module: str, args: Sequence[object] = (), *, timeout: float = 600, threads: int | None = None
) -> Json:
    """Run a measurement in a fresh Python process; return the JSON object that it prints last.

    Args:
        module: The measurement.
        args: Of its command line.
        timeout: Seconds.
        threads: That OpenMP and BLAS may use; all cores by default.

    Raises:
        MeasurementError: with the end of what it said, if it failed.
    """
    count = str(threads or usable_cores())
    command = [sys.executable, "-m", module, *map(str, args)]
    environment = os.environ | dict.fromkeys(THREADS, count) | {"PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(f"{' '.join(command)}: not done in {timeout:.0f} s") from error
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        try:
            return dict(json.loads(lines[-1]))
        except ValueError:
            pass
    said = f"{done.stdout[-500:]}{done.stderr[-3000:]}"
    raise MeasurementError(f"{' '.join(command)}: ended with {done.returncode}\n{said}")


def watched(module: str, args: Sequence[object]) -> Json:
    """Run a module in a fresh process.

    Returns:
        What it printed last, if that is JSON, and its `wall` seconds, `resident_mb` and
        `anonymous_mb`, and the `family_mb` that it and its children held at once.

    Raises:
        MeasurementError: with the end of what it said, if it failed.
    """
    command = [sys.executable, "-m", module, *map(str, args)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        started = time.monotonic()
        child = subprocess.Popen(command, env=environment, stdout=said, stderr=errors)
        most = peak = family = 0
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            most = max(most, anonymous_memory(child.pid))
            peak = max(peak, _status("VmHWM", child.pid))
            family = max(family, sum(_status("VmRSS", one) for one in family_of(child.pid)))
            time.sleep(LOOK_SECONDS)
        wall = time.monotonic() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        for file in (said, errors):
            file.seek(0)
        if child.returncode:
            raise MeasurementError(f"{' '.join(command)}:\n{errors.read()[-3000:]}")
        lines = said.read().splitlines()
    found = json.loads(lines[-1]) if lines else {}
    resident = peak or usage.ru_maxrss * 1024  # which begins with that of this process
    family = max(family, resident)  # a peak between two looks counts too
    memory = {"resident_mb": resident, "anonymous_mb": most, "family_mb": family}
    return {**found, "wall": wall, **{name: count / 1e6 for name, count in memory.items()}}


def rounds(
    tasks: Mapping[str, Callable[[int], Json]], number: int, seed: int = 0
) -> dict[str, list[Json]]:
    """Run every task once a round, in an order drawn for each round; return what they found.

    Args:
        tasks: By name; each is called with the number of the round.
        number: Of rounds.
        seed: Of the orders.
    """
    rng = random.Random(seed)
    found: dict[str, list[Json]] = {name: [] for name in tasks}
    for i in range(number):
        for name in rng.sample(list(tasks), len(tasks)):
            found[name].append(tasks[name](i))
    return found


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(np.median(values))


def spread(values: Sequence[float]) -> float:
    """Return the distance between the quartiles as a share of the median."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float((high - low) / middle) if middle else 0.0


def show(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows of equal keys as a table on stderr."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in rows[0] if rows else ():
        numbers = all(isinstance(row[name], int | float) for row in rows)
        table.add_column(name, justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    console.print(table)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def finish(result: Json, *, as_json: bool, path: Path | None) -> None:
    """Write what was found to `path`, and print it on stdout if it is wanted as JSON."""
    if path:
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(result))


def peak_rss() -> int:
    """Return the most bytes that this process has held in memory, mapped files included."""
    # Not getrusage, where there is a choice: its figure begins with that of the parent.
    peak = _status("VmHWM")
    return peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cpu_seconds() -> float:
    """Return the processor's seconds for this process so far, and for its living children."""
    total = time.process_time()
    for listed in Path("/proc/self/task").glob("*/children"):
        for child in listed.read_text(encoding="utf-8").split():
            # After the name in brackets: state is the third field, utime and stime 14 and 15.
            fields = Path(f"/proc/{child}/stat").read_text(encoding="utf-8").rpartition(")")[2]
            total += sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")
    return total


def anonymous_memory(pid: int | None = None) -> int:
    """Return the bytes that a process (this one) holds now and no file backs; 0 if unknown."""
    return _status("RssAnon", pid)


def family_of(pid: int) -> list[int]:
    """Return a process and all that it has started, as far as they are there."""
    found = [pid]
    for one in found:
        for listed in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):  # it has just ended
                found += map(int, listed.read_text(encoding="utf-8").split())
    return found


def _status(field: str, pid: int | None = None) -> int:
    try:
        lines = Path(f"/proc/{pid or 'self'}/status").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux, or the process has just ended
        return 0
    for line in lines:
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def aligned(shape: tuple[int, ...], dtype: np.dtype | type | str) -> np.ndarray:
    """Return a page-aligned array whose pages are there: their first touch is nobody's cost."""
    array = aligned_empty(shape, np.dtype(dtype))
    array[...] = 0
    return array
