"""The `convert-cache` command: a cache in fewer bytes, without pictures, models or torch."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frozen_vqa.cache import CacheError, CacheSpec, CacheWriter, FeatureCache
from frozen_vqa.cache.convert import convert_shard, converted_spec, copy_splits, shards_left
from frozen_vqa.cache.format.manifest import ShardKind, ShardRecord
from frozen_vqa.pipeline.system.console import console, duration, progress, size


def convert_command(source: Path, *, cache: Path, dtype: str) -> dict[str, Any]:
    """Store the rows of one cache in another, in another dtype; what is there already is kept.

    Args:
        source: Folder of the cache that is read.
        cache: Folder of the new one, made or gone on with.
        dtype: Of the new one.

    Raises:
        CacheError: and its kinds, if one of the caches is not what is needed, a row is damaged, or
            the disk is too small.
    """
    started = time.monotonic()
    features = FeatureCache(source)
    spec = converted_spec(features, dtype)
    with CacheWriter(cache, spec) as writer:
        left = shards_left(features, writer)
        _require_room(cache, left, spec)
        if left:
            with progress("convert, bytes", sum(record.bytes for _, record in left)) as advance:
                for kind, record in left:
                    convert_shard(features, writer, kind, record)
                    advance(record.bytes)
        copy_splits(features, writer)
        manifest = writer.manifest
    seconds = time.monotonic() - started
    done = f"{len(left):,} shards of {source} converted from {features.spec.dtype} to {dtype}"
    done = f"{done} in {duration(seconds)}" if left else f"nothing to convert: {cache} holds it all"
    console.print(
        f"{done}; {cache} has {size(manifest.bytes)} ({source}: {size(features.manifest.bytes)})",
        soft_wrap=True,
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


def _require_room(
    cache: Path, left: Sequence[tuple[ShardKind, ShardRecord]], spec: CacheSpec
) -> None:
    """Refuse before the first shard what the disk cannot hold."""
    need = sum(
        record.rows * spec.image_row_bytes
        if kind == "images"
        else record.prefixes * spec.prefix_row_bytes
        for kind, record in left
    )
    free = shutil.disk_usage(cache).free
    if need > free:
        raise CacheError(
            f"{cache}: {size(need)} are needed for what is missing, but {size(free)} are free on "
            f"this disk. Free some, or give another --cache."
        )
