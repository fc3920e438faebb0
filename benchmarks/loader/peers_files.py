"""Peers that are file formats: h5py, .npy, tensors in memory, tensordict, safetensors, LMDB."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import aligned
from benchmarks.loader.contenders import BATCH, ROW_SHAPE, Read, loader, whole


def _row(data: bytes | memoryview) -> np.ndarray:
    return np.frombuffer(data, np.float16).reshape(ROW_SHAPE)


def _buffer() -> np.ndarray:
    return aligned((BATCH, *ROW_SHAPE), np.float16)


def write_h5(path: Path, rows: np.ndarray, **layout: Any) -> None:
    """Write one data set."""
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=rows, **layout)


def h5_sample(path: Path) -> Callable[[int], Any]:
    """`ds[i]`."""
    import h5py
    import torch

    data = h5py.File(path)["x"]
    return lambda row: torch.from_numpy(data[row])


def h5_fancy(path: Path) -> Read:
    """`ds[sorted indices]`, put back into the order that was asked for."""
    import h5py

    data = h5py.File(path)["x"]

    def get(rows: np.ndarray) -> np.ndarray:
        order = np.argsort(rows)
        return data[rows[order]][np.argsort(order)]

    return whole(get)


def h5_direct(path: Path) -> Read:
    """`read_direct` of each row into its place in one aligned batch."""
    import h5py

    data, out = h5py.File(path)["x"], _buffer()

    def get(rows: np.ndarray) -> np.ndarray:
        for place, row in enumerate(rows.tolist()):
            data.read_direct(out, np.s_[row], np.s_[place])
        return out

    return whole(get)


def ram(path: Path) -> Any:
    """Return all rows as one tensor."""
    import torch

    return torch.from_numpy(np.load(path))


def ram_loader(path: Path) -> Read:
    """TensorDataset and DataLoader."""
    from torch.utils.data import TensorDataset

    read = loader(TensorDataset(ram(path)))
    return lambda rows: (batch[0] for batch in read(rows))


def indexed(rows_of: Callable[[Path], Any], path: Path) -> Read:
    """`tensor[indices]`."""
    import torch

    rows = rows_of(path)
    return whole(lambda chosen: rows[torch.from_numpy(chosen)])


def ram_selected(path: Path, threads: int | None = None) -> Read:
    """`index_select` into a buffer that is used again, in so many threads; by default torch's."""
    import torch

    torch.set_num_threads(threads or torch.get_num_threads())
    rows, out = ram(path), torch.from_numpy(_buffer())
    return whole(lambda chosen: torch.index_select(rows, 0, torch.from_numpy(chosen), out=out))


def npy_sample(path: Path) -> Callable[[int], Any]:
    """A copy of a mapped row."""
    import torch

    rows = np.load(path, mmap_mode="r")
    return lambda row: torch.from_numpy(np.array(rows[row]))


def write_tensordict(path: Path, rows: np.ndarray) -> None:
    """Write a folder of mapped tensors."""
    import torch
    from tensordict import TensorDict

    TensorDict({"x": torch.from_numpy(np.array(rows))}, batch_size=[len(rows)]).memmap(str(path))


def tensordict_batches(path: Path) -> Read:
    """`td[indices]` of mapped tensors."""
    import torch
    from tensordict import TensorDict

    stored = TensorDict.load_memmap(str(path))
    return whole(lambda rows: stored[torch.from_numpy(rows)]["x"])


def write_safetensors(path: Path, rows: np.ndarray) -> None:
    """Write one tensor."""
    from safetensors.numpy import save_file

    save_file({"x": np.asarray(rows)}, path)


def safetensors_sample(path: Path) -> Callable[[int], Any]:
    """A slice of the tensor."""
    from safetensors import safe_open

    rows = safe_open(path, framework="pt").get_slice("x")
    return lambda row: rows[row]


def safetensors_tensor(path: Path) -> Any:
    """Return the tensor, which stays mapped."""
    from safetensors.torch import load_file

    return load_file(path)["x"]


def write_lmdb(path: Path, rows: np.ndarray) -> None:
    """Write raw bytes under the number of the row."""
    import lmdb

    size = rows.nbytes * 2 + (64 << 20)
    with lmdb.open(str(path), map_size=size) as env, env.begin(write=True) as transaction:
        for i, row in enumerate(rows):
            transaction.put(str(i).encode(), row.tobytes())


def _lmdb(path: Path, **how: bool) -> Any:
    import lmdb

    return lmdb.open(str(path), readonly=True, lock=False, readahead=False, **how)


def lmdb_sample(path: Path) -> Callable[[int], Any]:
    """A transaction and a copy for each row."""
    import torch

    env = _lmdb(path)

    def get(row: int) -> Any:
        with env.begin() as transaction:
            return torch.from_numpy(_row(transaction.get(str(row).encode())).copy())

    return get


def lmdb_buffers(path: Path) -> Read:
    """One transaction, no copy but that into an aligned batch."""
    env, out = _lmdb(path), _buffer()
    transaction = env.begin(buffers=True)

    def get(rows: np.ndarray) -> np.ndarray:
        for place, row in zip(out, rows.tolist(), strict=True):
            np.copyto(place, _row(transaction.get(str(row).encode())))
        return out

    return whole(get)
