"""Where a cache came from, and the command that makes one of its files again. Without torch."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from cache import CacheSpec, Manifest
from cache.spec import Json

LOCAL = ("vqav2", "jsonl")


def origin_of(dataset: str, columns: Mapping[str, str], limit: int | None) -> dict[str, Json]:
    """Return what a cache keeps of where its questions came from, paths made absolute."""
    kind, _, rest = dataset.partition(":")
    if kind in LOCAL or (kind == "hub" and Path(rest).exists()):
        dataset = f"{kind}:{Path(rest).expanduser().resolve()}"
    return {"dataset": dataset, "columns": dict(columns), "limit": limit}


def rebuild_command(cache: Path, manifest: Manifest, file: str) -> str:
    """Return the command that makes one file of a cache again."""
    mended = next((n for n, record in manifest.splits.items() if record.file == file), None)
    origin = dict(manifest.splits[mended].origin) if mended else {}
    splits = [mended] if mended else []
    for name, record in manifest.splits.items():
        origin = origin or dict(record.origin)
        if not mended and record.origin.get("dataset") == origin.get("dataset"):
            splits.append(name)
    words = ["frozen-vqa", "extract-features", "--dataset", str(origin.get("dataset", "DATASET"))]
    columns, limit = origin.get("columns"), origin.get("limit")
    for field, column in columns.items() if isinstance(columns, dict) else ():
        words += ["--column", f"{field}={column}"]
    if limit is not None:
        words += ["--limit", str(limit)]
    for name in splits or ["SPLIT"]:
        words += ["--split", name]
    words += ["--cache", str(cache), *_encoder_options(manifest.spec)]
    return shlex.join(words if mended else [*words, "--rebuild", file])


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
