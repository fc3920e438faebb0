"""The source of a cache, and the command that makes one of its files again; without torch."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from frozen_vqa.cache import CacheSpec, Manifest
from frozen_vqa.cache.format.spec import Json

LOCAL = ("vqav2", "jsonl")


def describe_origin(
    dataset: str,
    columns: Mapping[str, str],
    splits: Sequence[str],
    limit: int | None,
    batch_size: int | None,
) -> dict[str, Json]:
    """Return the facts that a cache records about its source, with absolute paths."""
    kind, _, rest = dataset.partition(":")
    if kind in LOCAL or (kind == "hub" and Path(rest).exists()):
        dataset = f"{kind}:{Path(os.path.expanduser(rest)).resolve()}"
    return {
        "dataset": dataset,
        "columns": dict(columns),
        "splits": list(splits),
        "limit": limit,
        "batch_size": batch_size,
    }


def rebuild_command(cache: Path, manifest: Manifest, file: str) -> str:
    """Return the command that makes one file of a cache again, as a shell takes it."""
    split = next((n for n, record in manifest.splits.items() if record.file == file), None)
    origins = {shard.file: shard.origin for shard in (*manifest.images, *manifest.questions)}
    origins |= {record.file: record.origin for record in manifest.splits.values()}
    origin = origins[file]
    words = ["frozen-vqa", "extract-features", "--dataset", str(origin.get("dataset", "DATASET"))]
    columns, splits = origin.get("columns"), origin.get("splits")
    for field, column in columns.items() if isinstance(columns, dict) else ():
        words += ["--column", f"{field}={column}"]
    for option in ("limit", "batch_size"):
        if origin.get(option) is not None:
            words += [f"--{option.replace('_', '-')}", str(origin[option])]
    every = splits if isinstance(splits, list) and splits else ["SPLIT"]
    for name in [split] if split else every:
        words += ["--split", str(name)]
    words += ["--cache", str(cache), *_encoder_options(manifest.spec)]
    return shlex.join(words if split else [*words, "--rebuild", file])


def _encoder_options(spec: CacheSpec) -> list[str]:
    options = {
        "--vision-model": spec.vision.get("model"),
        "--image-size": spec.vision.get("image size"),
        "--fit": spec.vision.get("fit"),
        "--text-model": spec.text.get("model"),
        "--text-layer": spec.text.get("layer"),
        "--dtype": spec.dtype,
    }
    return [str(w) for name, v in options.items() if v is not None for w in (name, v)]
