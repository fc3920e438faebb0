"""What the commands `push` and `pull` do and say; they need no torch."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frozen_vqa.cache import load_manifest
from frozen_vqa.cache.stores.open_store import open_store
from frozen_vqa.cache.stores.pull import plan_pull, pull_cache
from frozen_vqa.cache.stores.push import push_cache
from frozen_vqa.pipeline.share.card import MARK, names_folders, render_card
from frozen_vqa.pipeline.system.console import console, duration, progress, size
from frozen_vqa.pipeline.system.disk import require_room


def push_command(cache: Path, *, to: str) -> dict[str, Any]:
    """Send to a URL what it lacks of a cache; see `stores.push`."""
    started = time.monotonic()
    store, manifest = open_store(to), load_manifest(cache)
    if folders := names_folders(manifest):
        console.warn(
            f"warning: cache.json names folders of this machine ({folders[0]}"
            f"{', …' if folders[1:] else ''}), which whoever may read {store} then knows"
        )
    card = render_card(manifest, str(store)).encode()
    with progress("push, bytes", manifest.bytes) as advance:
        pushed = push_cache(cache, manifest, store, card=card, mark=MARK.encode(), advance=advance)
    seconds = time.monotonic() - started
    console.show(
        f"{store}: {pushed.files:,} files, {size(pushed.bytes)}; sent {pushed.sent:,}, "
        f"{size(pushed.sent_bytes)}, in {duration(seconds)}"
    )
    if store.address.protocol == "memory":
        console.warn(f"{store} is the memory of this process, so nothing stays there")
    else:
        console.show(
            f"to use it elsewhere: frozen-vqa pull {shlex.quote(str(store))} --to features"
        )
    return {
        "cache": str(cache),
        "url": str(store),
        "files": pushed.files,
        "bytes": pushed.bytes,
        "sent": pushed.sent,
        "sent_bytes": pushed.sent_bytes,
        "requests": store.requests,
        "seconds": round(seconds, 3),
    }


def pull_command(url: str, *, to: Path, splits: Sequence[str]) -> dict[str, Any]:
    """Bring a cache or some of its splits to a folder; see `stores.pull`."""
    started = time.monotonic()
    store = open_store(url)
    plan = plan_pull(store, to, splits)
    require_room(to, plan.bytes, advice="Free some, or give another --to.")
    manifest = plan.manifest
    with progress("pull, bytes", manifest.bytes, done=manifest.bytes - plan.bytes) as advance:
        pull_cache(store, to, plan, advance=advance)
    seconds = time.monotonic() - started
    absent = len(manifest.absent)
    console.show(
        f"{to}: {len(manifest.files):,} files, {size(manifest.bytes)}, splits "
        f"{', '.join(manifest.splits) or 'none'}; {len(plan.lacks):,} files came, "
        f"{size(plan.bytes)}, in {duration(seconds)}"
    )
    if absent:
        console.show(
            f"a part: {absent:,} of {len(manifest.images):,} shards of pictures belong to other "
            f"splits. The same command without --split brings them"
        )
    return {
        "url": str(store),
        "cache": str(to),
        "splits": list(manifest.splits),
        "files": len(manifest.files),
        "bytes": manifest.bytes,
        "came": len(plan.lacks),
        "came_bytes": plan.bytes,
        "absent": absent,
        "requests": store.requests,
        "seconds": round(seconds, 3),
    }
