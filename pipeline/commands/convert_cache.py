"""The `convert-cache` command: the same features in fewer bytes; needs no models and no torch."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frozen_vqa.cache import CacheSpec, CacheWriter, FeatureCache
from frozen_vqa.cache.convert import convert_shard, converted_spec, copy_splits, shards_left
from frozen_vqa.cache.format.manifest import ShardKind, ShardRecord
from frozen_vqa.pipeline.system.console import console, duration, progress, size
from frozen_vqa.pipeline.system.disk import require_room


def convert_command(source: Path, *, cache: Path, dtype: str, pool: int = 1) -> dict[str, Any]:
    """Copy the rows of a cache into a smaller one; rows that it holds are kept.

    Raises:
        CacheError: and its kinds, if a cache cannot be used, a row is damaged, or the disk is too
            small.
    """
    started = time.monotonic()
    features = FeatureCache(source)
    spec = converted_spec(features, dtype, pool)
    with CacheWriter(cache, spec) as writer:
        left = shards_left(features, writer)
        advice = "Free some, or give another --cache."
        require_room(cache, _feature_bytes(left, spec), advice=advice)
        if left:
            with progress("convert, bytes", sum(record.bytes for _, record in left)) as advance:
                for kind, record in left:
                    convert_shard(features, writer, kind, record)
                    advance(record.bytes)
        copy_splits(features, writer)
        manifest = writer.manifest
    seconds = time.monotonic() - started
    done = f"{len(left):,} shards of {source} converted from {features.spec.dtype} to {dtype}"
    done += f", {pool} x {pool} patches to one" if pool > 1 else ""
    done = f"{done} in {duration(seconds)}" if left else f"nothing to convert: {cache} holds it all"
    console.show(
        f"{done}; {cache} has {size(manifest.bytes)} ({source}: {size(features.manifest.bytes)})"
    )
    return {
        "source": str(source),
        "cache": str(cache),
        "from": features.spec.dtype,
        "dtype": dtype,
        "shards": {"total": len(manifest.images) + len(manifest.questions), "converted": len(left)},
        "images": manifest.image_rows,
        "prefixes": manifest.prefix_rows,
        "source_bytes": features.manifest.bytes,
        "bytes": manifest.bytes,
        "seconds": round(seconds, 3),
    }


def _feature_bytes(left: Sequence[tuple[ShardKind, ShardRecord]], spec: CacheSpec) -> int:
    """Return the bytes of features that the new cache lacks."""
    return sum(
        record.rows * spec.image_row_bytes
        if kind == "images"
        else record.prefixes * spec.prefix_row_bytes
        for kind, record in left
    )
