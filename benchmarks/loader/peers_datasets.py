"""Peers that are libraries of data sets: Hugging Face, WebDataset, MosaicML, zarr."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.loader.contenders import BATCH, ROW_SHAPE, Read, loader, whole

SHUFFLED = 256
"""Samples in WebDataset's shuffle buffer."""


def write_arrow(path: Path, rows: np.ndarray) -> None:
    """Write a Hugging Face data set with one two-dimensional array a row."""
    from datasets import Array2D, Dataset, Features, disable_progress_bars

    disable_progress_bars()

    def examples() -> Iterator[dict[str, np.ndarray]]:
        for row in rows:
            yield {"x": np.asarray(row)}

    features = Features({"x": Array2D(ROW_SHAPE, "float16")})
    with tempfile.TemporaryDirectory(dir=path.parent) as made:
        Dataset.from_generator(examples, features=features, cache_dir=made).save_to_disk(path)


def _arrow(path: Path, kind: str, **how: Any) -> Any:
    from datasets import load_from_disk

    return load_from_disk(path).with_format(kind, **how)


def arrow_loader(path: Path) -> Read:
    """Torch format in a DataLoader."""
    import torch

    return loader(_arrow(path, "torch", dtype=torch.float16))


def arrow_torch(path: Path) -> Read:
    """Torch format, a batch at once."""
    import torch

    rows = _arrow(path, "torch", dtype=torch.float16)
    return whole(lambda chosen: rows[chosen.tolist()]["x"])


def arrow_batches(path: Path) -> Read:
    """Arrow format, a batch at once, seen as one array."""
    rows = _arrow(path, "arrow")

    def get(chosen: np.ndarray) -> np.ndarray:
        column = rows[chosen.tolist()]["x"].combine_chunks()
        return column.storage.flatten().flatten().to_numpy().reshape(-1, *ROW_SHAPE)

    return whole(get)


def write_tar(path: Path, rows: np.ndarray) -> None:
    """Write WebDataset shards, each row as .npy."""
    import webdataset

    path.mkdir()
    with webdataset.ShardWriter(str(path / "%05d.tar"), maxcount=256, verbose=0) as writer:
        for i, row in enumerate(rows):
            writer.write({"__key__": f"{i:06d}", "npy": row})


def tar_shuffled(path: Path) -> Read:
    """Shards in random order, a shuffle buffer, decoded and batched by the library."""
    import webdataset

    urls = sorted(map(str, path.glob("*.tar")))
    made = webdataset.WebDataset(urls, shardshuffle=len(urls)).shuffle(SHUFFLED).decode()
    made = made.to_tuple("npy").batched(BATCH, partial=False)
    return lambda rows: (batch[0] for batch in made)


def tar_sequential(path: Path) -> Read:
    """In the order of the files, without a shuffle buffer; the bytes after .npy's header."""
    import webdataset

    urls = sorted(map(str, path.glob("*.tar")))
    size = int(np.prod(ROW_SHAPE)) * 2

    def row(data: bytes) -> np.ndarray:
        return np.frombuffer(data, np.float16, offset=len(data) - size).reshape(ROW_SHAPE)

    made = webdataset.WebDataset(urls, shardshuffle=False).to_tuple("npy").map_tuple(row)
    made = made.batched(BATCH, partial=False)
    return lambda rows: (batch[0] for batch in made)


def _mosaic() -> Any:
    """Import MosaicML streaming without torchvision and codecs, which it names but never uses."""
    names = ("transforms", "transforms.functional", "datasets")
    for name in ("brotli", "snappy", "zstd", "torchvision", *(f"torchvision.{n}" for n in names)):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        sys.modules.setdefault(name, module)
    vars(sys.modules["torchvision.datasets"])["VisionDataset"] = object
    vars(sys.modules["torchvision.transforms.functional"])["to_tensor"] = None
    import streaming

    return streaming


def write_mds(path: Path, rows: np.ndarray) -> None:
    """Write shards of arrays of known shape, uncompressed."""
    columns = {"x": f"ndarray:float16:{ROW_SHAPE[0]},{ROW_SHAPE[1]}"}
    with _mosaic().MDSWriter(out=str(path), columns=columns) as writer:
        for row in rows:
            writer.write({"x": np.asarray(row)})


def mds_shuffled(path: Path) -> Read:
    """The shuffle of the library and its DataLoader."""
    os.environ["TMPDIR"] = str(path.parent)  # where it leaves its locks
    streaming = _mosaic()
    made = streaming.StreamingDataset(local=str(path), shuffle=True, batch_size=BATCH)
    batches = streaming.StreamingDataLoader(made, batch_size=BATCH, drop_last=True)
    return lambda rows: (batch["x"] for batch in batches)


def mds_local(path: Path) -> Read:
    """Any row at any time, from local shards, in a DataLoader."""
    import torch

    made = _mosaic().LocalDataset(str(path))

    def stacked(batch: list[dict[str, np.ndarray]]) -> Any:
        return torch.from_numpy(np.stack([sample["x"] for sample in batch]))

    return loader(made, collate=stacked)


def write_zarr(path: Path, rows: np.ndarray, **layout: Any) -> None:
    """Write one array."""
    import zarr

    made = zarr.create_array(str(path), shape=rows.shape, dtype=rows.dtype, **layout)
    made[:] = rows


def zarr_sample(path: Path) -> Callable[[int], Any]:
    """`z[i]`."""
    import torch
    import zarr

    rows = zarr.open_array(str(path), mode="r")
    return lambda row: torch.from_numpy(rows[row])


def zarr_batches(path: Path) -> Read:
    """`z.oindex[indices]`."""
    import zarr

    rows = zarr.open_array(str(path), mode="r")
    return whole(lambda chosen: rows.oindex[chosen])
