"""What the loader benchmark makes of its rounds: a table, and the ratios of speeds."""

from collections.abc import Sequence

import numpy as np

from benchmarks.harness import Json, median, show, spread
from benchmarks.loader import ours as ours
from benchmarks.loader.contenders import Line
from benchmarks.loader.ours import CEILINGS, OURS, cache_name
from benchmarks.loader.peers import FLAT_NPY, IN_MEMORY, PEERS, USUAL, USUAL_H5PY, WORKERS
from frozen_vqa.pipeline.system.console import console

STEADY_LOAD, STEADY_SPREAD = 0.5, 0.15
"""Above these the machine had other work."""


H5PY = [line for line in PEERS if line.package == "h5py"]
H5PY_LOADERS = [line for line in H5PY if line.setting in (USUAL, WORKERS)]


def speeds(found: dict[str, list], lines: Sequence[Line]) -> np.ndarray | None:
    """Return the best of some lines, in GB/s, by round; None if none was measured."""
    rows = [[one["gb_per_s"] for one in found[line.key]] for line in lines if line.key in found]
    return np.max(rows, axis=0) if rows else None


def ratio(mine: np.ndarray | None, theirs: np.ndarray | None) -> float | None:
    """Return the median, over the rounds, of our speed over the other's."""
    if mine is None or theirs is None:
        return None
    return round(median(list(mine / theirs)), 3)


def _ours(dtype: str, setting: str) -> Line:
    return next(line for line in OURS if line.file == cache_name(dtype) and line.setting == setting)


def ratios(found: dict[str, list]) -> dict[str, float | None]:
    """Return our speed over that of others; None where nothing was measured.

    `best_h5py_loader` is the best DataLoader over `ds[i]`, `best_h5py` the best of all h5py lines,
    the batch filled by hand among them. What holds all rows in memory is compared with ours doing
    the same, what reads a file with our map.
    """
    mapped, resident, batches = (
        speeds(found, [_ours("float16", setting)]) for setting in ours.SETTINGS
    )
    c1, c2 = (
        speeds(found, [line for line in CEILINGS if line.name == name])
        for name in (ours.C1, ours.C2)
    )
    others = [line for line in PEERS if line not in (*FLAT_NPY, *IN_MEMORY)]
    return {
        "memory_copy_mapped": ratio(mapped, c2),
        "memory_copy_resident": ratio(resident, c1),
        "memory_copy_batches": ratio(batches, c2),
        "best_h5py_loader": ratio(mapped, speeds(found, H5PY_LOADERS)),
        "best_h5py": ratio(mapped, speeds(found, H5PY)),
        "usual_h5py_loader": ratio(mapped, speeds(found, [USUAL_H5PY])),
        "flat_npy": ratio(mapped, speeds(found, FLAT_NPY)),
        "tensor_in_memory": ratio(resident, speeds(found, IN_MEMORY)),
        "best_other_peer": ratio(mapped, speeds(found, others)),
    }


def limits(found: dict[str, float | None], read_over_ours: float) -> dict[str, float | None]:
    """Return what our ratios over the h5py loaders would be if we wrote nothing.

    Args:
        found: As `ratios` returns it.
        read_over_ours: How much faster the same rows are read, and written nowhere.
    """
    names = ("best_h5py_loader", "usual_h5py_loader")
    each = {name: found[name] for name in names}
    return {name: value and round(value * read_over_ours, 3) for name, value in each.items()}


def in_dtype(found: dict[str, list], dtype: str) -> dict[str, float | None]:
    """Return our speed in another dtype over that in float16: bytes, and pictures."""
    size = np.dtype(dtype).itemsize / 2
    result: dict[str, float | None] = {}
    for setting in ours.SETTINGS:
        other, usual = (speeds(found, [_ours(each, setting)]) for each in (dtype, "float16"))
        bytes_ratio = ratio(other, usual)
        result[f"{dtype} bytes, {setting}"] = bytes_ratio
        result[f"{dtype} pictures, {setting}"] = bytes_ratio and round(bytes_ratio / size, 3)
    return result


def summary(found: dict[str, list], lines: Sequence[Line], dtype: str) -> Json:
    """Print the table, and return it with the ratios."""
    mine = speeds(found, [_ours("float16", ours.MAPPED)])
    table = []
    for line in lines:
        if line.key not in found:
            continue
        of = {name: [one[name] for one in found[line.key]] for name in found[line.key][0]}
        table.append(
            {
                "line": line.key,
                "GB/s": round(median(of["gb_per_s"]), 3),
                "spread": f"{spread(of['gb_per_s']):.0%}",
                "CPU s/GB": round(median(of["cpu_s_per_gb"]), 3),
                "ours/it": ratio(mine, speeds(found, [line])),
            }
        )
    show("Batches of 64 random pictures, hot", table)
    result = ratios(found) if dtype == "float16" else in_dtype(found, dtype)
    show("Our speed over", [{"what": name, "ratio": value} for name, value in result.items()])
    keys = {line.key for line in PEERS}
    peers = {row["line"]: row["GB/s"] for row in table if row["line"] in keys}
    return {"ratios": result, "peers": peers, "lines": table, "measured": found}


def steady(found: dict[str, list], load: float) -> bool:
    """Return whether the machine did nothing else; say so if it did."""
    spreads = [spread([one["gb_per_s"] for one in found[line.key]]) for line in CEILINGS]
    still = load <= STEADY_LOAD and max(spreads) <= STEADY_SPREAD
    if not still:
        console.print(
            f"Load {load:.1f} at the start, ceilings spread by {max(spreads):.0%}: the machine had "
            f"other work, and these numbers are not to be kept."
        )
    return still
