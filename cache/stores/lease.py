"""One writer at a time at a URL: an object that names its holder, made create-only and renewed.

    URL/leases/000000.json    the process that writes, and when it was last alive

As with leases of files (disk/lock.py): a lease is over when its holder has given it back, is a dead
process of this machine, or was silent for long. The next writer then makes the one of the next
number, which the store grants to one of several. The highest number holds. Times are those of the
writers. Where their clocks differ, the next one waits a while for a sign of life.

A store that `commits` needs none: it refuses a commit on top of another one than the writer saw.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Annotated

from frozen_vqa.cache.disk.lock import LEASE_RENEW, LEASE_STALE, Holder, this_process
from frozen_vqa.cache.errors import CacheBusyError, StoreError
from frozen_vqa.cache.stores.store import GoneError, Store
from frozen_vqa.cache.typed_json import decode, finite_json

FOLDER = "leases"
LARGEST = 4096
LEASE = re.compile(rf"{FOLDER}/[0-9]{{6,}}\.json")


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
    over, holder = _require_over(store), this_process()
    number = _number(over[-1]) + 1 if over else 0
    mine, stop = f"{FOLDER}/{number:06d}.json", threading.Event()

    lost = threading.Event()

    def is_held() -> bool:
        if not lost.is_set() and _leases(store)[-1:] != [mine]:
            lost.set()
        return not lost.is_set()

    def require() -> None:
        if not is_held():
            raise CacheBusyError(
                f"{store}: this process no longer holds the writers' lease, because it was silent "
                f"for too long. When no other process writes there, run the same command again."
            )

    def renew() -> None:
        while not stop.wait(LEASE_RENEW):
            with suppress(StoreError):  # `require` will say so
                if not is_held():  # made anew, it could outlast the one that took over
                    return
                store.replace(mine, _sign(holder))

    signed = _sign(holder)
    # If the answer to the first try was lost, the second one finds what the first has made.
    if not store.create(mine, signed) and not _holds(store, mine, signed):
        raise _busy(store, mine)
    renewal = threading.Thread(target=renew, name="lease", daemon=True)
    try:
        if not is_held():
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


def _sign(holder: Holder) -> bytes:
    return json.dumps(asdict(Lease(holder, time.time()))).encode()


def _leases(store: Store) -> list[str]:
    return sorted((name for name in store.sizes(FOLDER) if LEASE.fullmatch(name)), key=_number)


def _number(name: str) -> int:
    return int(name[len(FOLDER) + 1 : -5])


def _require_over(store: Store) -> list[str]:
    """Return all leases; raise `CacheBusyError` unless they are over."""
    leases = _leases(store)
    last = [_read(store, name) for name in leases][-1:]
    for lease in last:
        if lease and not lease.holder.is_dead():
            left = LEASE_STALE - abs(time.time() - lease.alive)
            if left > 0:
                hint = f" If it no longer runs, try again in {left:.0f} s."
                raise _busy(store, leases[-1], hint)
            # Two clocks may differ: a holder that is alive signs several times meanwhile.
            time.sleep(max(0.0, LEASE_STALE / 4))
            if _read(store, leases[-1]) != lease:
                raise _busy(store, leases[-1])
    return leases


def _holds(store: Store, name: str, data: bytes) -> bool:
    try:
        return store.read(name, most=LARGEST) == data
    except GoneError:  # another's, which has given it back by now
        return False


def _read(store: Store, name: str) -> Lease | None:
    """Return a lease; None if it was just given back. Raise `StoreError` for what is none."""
    try:
        data = store.read(name, most=LARGEST)
        return decode(Lease, finite_json(data)) if data else None
    except GoneError:
        return None
    except (ValueError, TypeError, RecursionError):
        raise StoreError(
            f"{store}/{name}: this is no lease of frozen-vqa, so it may be somebody else's and was "
            f"left as it is. Move it elsewhere, or give another URL."
        ) from None


def _busy(store: Store, name: str, hint: str = "") -> CacheBusyError:
    lease = _read(store, name)
    return CacheBusyError(
        f"{store}: another process is writing there ({lease.holder if lease else 'unknown'}). "
        f"Wait for it to end, end it, or give another URL.{hint}"
    )
