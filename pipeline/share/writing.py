"""An extraction to a URL: a folder of this machine is sent there while its cache grows.

    STAGE/growing/s3/BUCKET/FOLDER  where shards are built and adopted, as in any cache

At each moment the URL has a whole cache, which begins with the shards that are done. So a machine
that vanishes loses what it had not sent: another one brings what is there, and goes on.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from frozen_vqa.cache import CacheError, load_manifest
from frozen_vqa.cache.format.manifest import NAME
from frozen_vqa.cache.stores.copies import is_continued, read_manifest
from frozen_vqa.cache.stores.lease import sole_writer_at
from frozen_vqa.cache.stores.open_store import open_store
from frozen_vqa.cache.stores.pull import plan_pull, pull_cache
from frozen_vqa.cache.stores.push import push_cache
from frozen_vqa.cache.stores.stage import claim_stage, default_stage
from frozen_vqa.cache.stores.store import Store
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.share.card import MARK, render_card
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.disk import require_room
from frozen_vqa.pipeline.system.ranks import by_torchrun
from frozen_vqa.pipeline.watch.prometheus import Part

EVERY, EVERY_COMMIT = 30.0, 900.0
"""Seconds between two looks for what is new; the Hub allows few commits an hour."""


@contextmanager
def written_at(url: str, stage: Path | None) -> Iterator[Path]:
    """Yield the folder of a cache that is sent to a URL meanwhile, and whole at the end.

    Raises:
        ConfigError: under torchrun, because one process alone may write to a URL.
        CacheBusyError: if another process writes there.
        CacheMismatchError: if another cache is there than in the folder of an earlier extraction.
        StoreError: if the store cannot be used; what was stored in the folder is whole.
    """
    if by_torchrun():
        raise ConfigError(
            f"{url}: one process alone writes to a URL, and torchrun started several. Extract to a "
            f"folder, and push that."
        )
    store = open_store(url)
    address = store.address
    place = f"growing/{address.protocol}/{address.path.strip('/')}"
    folder = claim_stage(stage or default_stage(), place)
    with Part(lambda: {"store_requests_total": store.requests}), sole_writer_at(store) as require:
        _bring(store, folder)
        stop, sent = threading.Event(), [b""]

        def send(*, whole: bool) -> None:
            manifest = load_manifest(folder)
            data = manifest.to_json().encode()
            if whole or data != sent[0]:
                push_cache(
                    folder,
                    manifest,
                    store,
                    card=render_card(manifest, url).encode(),
                    mark=MARK.encode(),
                    advance=lambda _: None,
                    held=require,
                    whole=whole,
                )
                sent[0] = data

        def send_now_and_then() -> None:
            while not stop.wait(EVERY_COMMIT if store.commits else EVERY):
                with suppress(CacheError):  # the last time says why
                    send(whole=False)

        sending = threading.Thread(target=send_now_and_then, name="push", daemon=True)
        sending.start()
        try:
            yield folder
        finally:
            stop.set()
            sending.join()
        send(whole=True)
    console.show(f"{url}: the cache is there; {folder} holds a copy, which may be removed")


def _bring(store: Store, folder: Path) -> None:
    """Bring what the store has, unless the folder has all of it and perhaps more."""
    there = read_manifest(store)
    if there is None:
        return
    if (folder / NAME).exists() and is_continued(there, load_manifest(folder)):
        return
    plan = plan_pull(store, folder, ())
    require_room(folder, plan.bytes, advice="Free some, or give --stage a folder elsewhere.")
    pull_cache(store, folder, plan, advance=lambda _: None)
