"""How other formats and libraries write and read features with one row per picture.

Each is read as its own documentation advises for speed, and as people usually read it. Every
contender ends with one contiguous float16 batch in memory, so that every byte has been read.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.loader import peers_datasets as sets
from benchmarks.loader import peers_files as files
from benchmarks.loader.contenders import ROW_SHAPE, Line, Read, samples
from benchmarks.loader.ours import COPIES, mapped

Write = Callable[[Path, np.ndarray], None]

CHUNK = (1, *ROW_SHAPE)
NPY, TENSORS, LMDB = "rows.npy", "rows.safetensors", "rows.lmdb"
CONTIGUOUS, CHUNKED, GZIP = "contiguous.h5", "one-row-chunks.h5", "gzip.h5"
ARROW, TAR, MDS = "arrow", "tar", "mds"
ZARR, ZARR_DEFAULT = "one-row-chunks.zarr", "default.zarr"

WRITE: dict[str, Write] = {
    CONTIGUOUS: files.write_h5,
    CHUNKED: partial(files.write_h5, chunks=CHUNK),
    GZIP: partial(files.write_h5, compression="gzip"),
    NPY: np.save,
    "tensordict": files.write_tensordict,
    TENSORS: files.write_safetensors,
    LMDB: files.write_lmdb,
    ARROW: sets.write_arrow,
    TAR: sets.write_tar,
    MDS: sets.write_mds,
    ZARR: partial(sets.write_zarr, chunks=CHUNK, compressors=None),
    ZARR_DEFAULT: sets.write_zarr,
}
"""By the name of the file or folder that is written."""


def _h5(file: str, setting: str, open: Callable[[Path], Read], *, quick: bool = False) -> Line:
    return Line(f"h5py, {file.removesuffix('.h5')}", setting, file, open, "h5py", quick)


USUAL, WORKERS, AT_ONCE = "DataLoader", "DataLoader, 2 workers", "a batch at once"

USUAL_H5PY = _h5(CHUNKED, WORKERS, samples(files.h5_sample, 2), quick=True)
FLAT_NPY = [
    Line(".npy map", f"{how}, aligned batch", NPY, partial(mapped, copy), quick=True)
    for how, copy in COPIES.items()
]
IN_MEMORY = [
    Line("tensor in memory", USUAL, NPY, files.ram_loader, "torch"),
    Line("tensor in memory", "index", NPY, partial(files.indexed, files.ram), "torch"),
    Line("tensor in memory", "index_select, aligned batch", NPY, files.ram_selected, "torch", True),
    Line(
        "tensor in memory",
        "index_select, aligned batch, 1 thread",
        NPY,
        partial(files.ram_selected, threads=1),
        "torch",
    ),
]

PEERS = [
    USUAL_H5PY,
    *FLAT_NPY,
    _h5(CHUNKED, USUAL, samples(files.h5_sample)),
    _h5(CHUNKED, "sorted fancy indexing", files.h5_fancy),
    _h5(CONTIGUOUS, USUAL, samples(files.h5_sample)),
    _h5(CONTIGUOUS, WORKERS, samples(files.h5_sample, 2)),
    _h5(CONTIGUOUS, "sorted fancy indexing", files.h5_fancy),
    _h5(CONTIGUOUS, "read_direct, aligned batch", files.h5_direct, quick=True),
    _h5(GZIP, USUAL, samples(files.h5_sample)),
    *IN_MEMORY,
    Line(".npy map", USUAL, NPY, samples(files.npy_sample), "torch"),
    Line(".npy map", WORKERS, NPY, samples(files.npy_sample, 2), "torch"),
    Line("tensordict", "index", "tensordict", files.tensordict_batches, "tensordict", True),
    Line("safetensors", USUAL, TENSORS, samples(files.safetensors_sample), "safetensors"),
    Line(
        "safetensors",
        "index of the mapped tensor",
        TENSORS,
        partial(files.indexed, files.safetensors_tensor),
        "safetensors",
        True,
    ),
    Line("LMDB", USUAL, LMDB, samples(files.lmdb_sample), "lmdb"),
    Line("LMDB", "buffers, aligned batch", LMDB, files.lmdb_buffers, "lmdb", True),
    Line("HF datasets", "torch format, DataLoader", ARROW, sets.arrow_loader, "datasets"),
    Line("HF datasets", f"torch format, {AT_ONCE}", ARROW, sets.arrow_torch, "datasets"),
    Line("HF datasets", f"arrow format, {AT_ONCE}", ARROW, sets.arrow_batches, "datasets", True),
    Line("WebDataset", "shuffle, decode", TAR, sets.tar_shuffled, "webdataset", own_order=True),
    Line("WebDataset", "in order, raw", TAR, sets.tar_sequential, "webdataset", True, True),
    Line("MosaicML", "shuffle", MDS, sets.mds_shuffled, "mosaicml-streaming", own_order=True),
    Line("MosaicML", "LocalDataset, DataLoader", MDS, sets.mds_local, "mosaicml-streaming"),
    Line("zarr, one-row chunks", USUAL, ZARR, samples(sets.zarr_sample), "zarr"),
    Line("zarr, one-row chunks", AT_ONCE, ZARR, sets.zarr_batches, "zarr", True),
    Line("zarr, default", USUAL, ZARR_DEFAULT, samples(sets.zarr_sample), "zarr"),
]
