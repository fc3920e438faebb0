"""One writer at a time at a URL: an object that names its holder, made create-only and renewed.

    URL/leases/000000.json    the process that writes, and when it was last alive

As with leases of files (disk/lock.py): a lease is over when its holder has given it back, is a dead
process of this machine, or was silent for long. The next writer then makes the one of the next
number, which the store grants to one of several. The highest number holds. Times are those of the
writers, so their clocks must agree to a minute.

A store that `commits` needs none: it refuses a commit on top of another one than the writer saw.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Annotated

from frozen_vqa.cache.disk.lock import LEASE_RENEW, LEASE_STALE, Holder, this_process
from frozen_vqa.cache.errors import CacheBusyError, StoreError
from frozen_vqa.cache.stores.store import Store
from frozen_vqa.cache.typed_json import decode, finite_json

FOLDER = "leases"
LARGEST = 4096


@dataclass(frozen=True)
class Lease:
    """What a lease says; `alive` is in seconds since 1970, by the holder's clock."""

    holder: Holder
    alive: Annotated[float, (0, 2**40)]


@contextmanager
def sole_writer_at(store: Store) -> Iterator[Callable[[], None]]:
    """Hold the lease of a store for the block; yield what raises if another has taken over.

    Raise `CacheBusyError` if another process writes there.
    """
    if store.commits:
        yield lambda: None
        return
    over = _require_over(store)
    number = int(over[-1][len(FOLDER) + 1 : -5]) + 1 if over else 0
    mine, stop = f"{FOLDER}/{number:06d}.json", threading.Event()

    def require() -> None:
        if _leases(store)[-1:] != [mine]:
            raise CacheBusyError(
                f"{store}: this process no longer holds the writers' lease, because it was silent "
                f"for too long. When no other process writes there, run the same command again."
            )

    def renew() -> None:
        while not stop.wait(LEASE_RENEW):
            with suppress(StoreError):  # `require` will say so
                store.replace(mine, _sign())

    signed = _sign()
    # If the answer to the first try was lost, the second one finds what the first has made.
    if not store.create(mine, signed) and store.read(mine, most=LARGEST) != signed:
        raise _busy(store, mine)
    renewal = threading.Thread(target=renew, daemon=True)
    try:
        if _leases(store)[-1:] != [mine]:
            raise _busy(store, mine)
        store.remove(over)
        renewal.start()
        yield require
    finally:
        stop.set()
        if renewal.ident is not None:
            renewal.join()
        with suppress(StoreError):  # then it is over in a while
            store.remove([mine])


def _sign() -> bytes:
    return json.dumps(asdict(Lease(this_process(), time.time()))).encode()


def _leases(store: Store) -> list[str]:
    found = (name for name in store.sizes(FOLDER) if name.endswith(".json"))
    return sorted(name for name in found if name[len(FOLDER) + 1 : -5].isdecimal())


def _require_over(store: Store) -> list[str]:
    """Return all leases; raise `CacheBusyError` unless they are over."""
    leases = _leases(store)
    for last in leases[-1:]:
        lease = _read(store, last)
        if lease and not lease.holder.is_dead():
            left = LEASE_STALE - abs(time.time() - lease.alive)
            if left > 0:
                raise _busy(store, last, f" If it no longer runs, try again in {left:.0f} s.")
    return leases


def _read(store: Store, name: str) -> Lease | None:
    try:
        return decode(Lease, finite_json(store.read(name, most=LARGEST)))
    except (ValueError, TypeError, RecursionError, StoreError):  # nobody's, or just given back
        return None


def _busy(store: Store, name: str, hint: str = "") -> CacheBusyError:
    lease = _read(store, name)
    return CacheBusyError(
        f"{store}: another process is writing there ({lease.holder if lease else 'unknown'}). "
        f"Wait for it to end, end it, or give another URL.{hint}"
    )
