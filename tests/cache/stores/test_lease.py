"""One writer at a time, whatever clocks, other people and dead processes leave at the URL."""

import json
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from frozen_vqa.cache.disk.lock import this_process
from frozen_vqa.cache.errors import CacheBusyError, StoreError
from frozen_vqa.cache.stores import lease
from frozen_vqa.cache.stores.open_store import open_store
from frozen_vqa.cache.stores.store import Store
from tests.support.waiting import within

NOW, HERE = 1e9, this_process()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    clock = SimpleNamespace(time=lambda: NOW, sleep=lambda _: None)
    monkeypatch.setattr(lease, "time", clock)
    return open_store(f"file://{tmp_path}/store")


def signed(alive: float, host: str = "elsewhere") -> bytes:
    holder = asdict(HERE) | {"host": host}
    return json.dumps({"holder": holder, "alive": alive}).encode()


def hold(store: Store) -> str:
    """Take the lease; return its name, having seen that it is there in the block alone."""
    with lease.sole_writer_at(store) as require:
        require()
        (name,) = store.sizes("leases")
    assert not store.sizes("leases")
    return name


@pytest.mark.parametrize("number", ["000000", "000007", "999999", "1000000", "4" * 30])
@pytest.mark.parametrize("alive", [0.0, NOW - 121, NOW + 121, 2.0**39])
def test_a_silent_lease_is_over_whatever_its_number(
    number: str, alive: float, store: Store
) -> None:
    store.create(f"leases/{number}.json", signed(alive))
    assert hold(store) == f"leases/{int(number) + 1:06d}.json"


@pytest.mark.parametrize("alive", [NOW - 3600, NOW + 3600])
def test_a_holder_whose_clock_is_wrong_shows_that_it_lives(
    alive: float, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "leases/000003.json"
    store.create(name, signed(alive))
    monkeypatch.setattr(lease.time, "sleep", lambda _: store.replace(name, signed(alive + 10)))
    with pytest.raises(CacheBusyError, match="another process is writing there"):
        hold(store)
    assert store.read(name, most=4096) == signed(alive + 10)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("leases/000012.json", b"a lease of a house"),
        ("leases/000012.json", b'{"holder": {"name": "me"}}'),
        ("leases/000012.json", b"[" * 4000),
        ("leases/12.json", b"mine"),
        ("leases/٣٣٣٣٣٣.json", b"mine"),
        ("leases/000012.json.txt", b"mine"),
    ],
)
def test_what_is_no_lease_of_ours_stays(name: str, data: bytes, store: Store) -> None:
    store.create(name, data)
    store.create("leases/000100.json", signed(0.0))
    if lease.LEASE.fullmatch(name):
        with pytest.raises(StoreError, match="no lease of frozen-vqa"):
            hold(store)
    else:
        with lease.sole_writer_at(store):
            pass
    assert store.read(name, most=4096) == data


def test_a_lease_that_cannot_be_read_is_not_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create("leases/000000.json", signed(NOW))
    real = type(store).read

    def read(self: Store, name: str, *, most: int) -> bytes:
        raise StoreError("no answer")

    monkeypatch.setattr(type(store), "read", read)
    with pytest.raises(StoreError, match="no answer"):
        hold(store)
    monkeypatch.setattr(type(store), "read", real)
    assert store.read("leases/000000.json", most=4096) == signed(NOW)


def test_who_slept_while_another_wrote_does_not_come_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one took over and has ended, and only then the first one renews its lease."""
    monkeypatch.setattr(lease, "LEASE_RENEW", 0.01)
    renewed: list[str] = []
    real = type(store).replace

    def replace(self: Store, name: str, data: bytes) -> None:
        real(self, name, data)
        renewed.append(name)

    monkeypatch.setattr(type(store), "replace", replace)
    with lease.sole_writer_at(store) as require:
        (mine,) = store.sizes("leases")
        store.remove([mine])
        renewed.clear()
        thread = next(one for one in threading.enumerate() if one.name == "lease")
        with within(20):
            while thread.is_alive() and not renewed:
                time.sleep(0.001)
        with pytest.raises(CacheBusyError, match="no longer holds"):
            require()
    assert not store.sizes("leases")


def test_another_one_took_it_and_gave_it_back_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "create", lambda *_: False)
    with pytest.raises(CacheBusyError, match="another process is writing there"):
        hold(store)
